"""(v) Proofs of the demo's orgs: how large they are, how long both programs check one, and what they find of what was changed.

Owns: a closed month of the demo's traffic, each request posted when it ended, signed day by day by the notary's own core.
Called by: `bench/__main__.py`. What is tried is `metering prove` and `deploy/prove.py`, as processes of their own.

Where the system lets one take the network away from a process (`unshare`), the programs run without any.
"""

from __future__ import annotations

import asyncio
import importlib.util
import io
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from bench.report import Report
from pipeline import ist
from pipeline.catalog.rates import RateTable
from pipeline.catalog.rating import is_free
from pipeline.demo.figures import cost_of_event
from pipeline.demo.platform import ORGS, TRIAL, DemoOrg
from pipeline.demo.seeding import catalog, table_of
from pipeline.demo.traffic import history
from pipeline.journal import LedgerRow, RequestRow, Row, public_id
from pipeline.money import NANO_PER_RUPEE
from pipeline.notary.chain import rate_line
from pipeline.notary.check import check
from pipeline.notary.proof_reader import ProofError
from pipeline.shipped import shipped
from tests.support.notary import KEYS, Books

MONTH, MONTH_TEXT = 202610, "2026-10"
SEED = 18
CREDIT_NANO = 5_000 * NANO_PER_RUPEE
CHANGES, CHANGES_FULL = 50, 1_000
OFFLINE = ("unshare", "--map-root-user", "--net")
SCRIPT = shipped("deploy/prove.py")
LIMIT_S = 600


async def proofs(*, full: bool) -> Report:
    """(v) Each demo org's proof, checked by both programs; then bytes of the smallest one changed."""
    report = Report(
        "v",
        f"proofs of the demo's orgs for {MONTH_TEXT}, every day of it signed",
        ("org", "rows", "signed days", "MB", "MB gzipped", "metering prove, s", "deploy/prove.py, s"),
    )
    made = _books().sign()
    prefix = OFFLINE if _can_go_offline() else ()
    with tempfile.TemporaryDirectory() as home:
        for org in ORGS:
            proof = made.proof(org.org, MONTH_TEXT)
            file = Path(home) / f"{org.org}.ndjson"
            file.write_bytes(proof)
            await asyncio.to_thread(_measure, report, org, file, prefix)
    report.notes.append(
        "Both programs ran without a network (`unshare --net`)."
        if prefix
        else "The programs could reach the network: this system does not let one take it away."
    )
    smallest = made.proof(TRIAL.org, MONTH_TEXT)
    report.notes.append(_changed(smallest, CHANGES_FULL if full else CHANGES))
    return report


def _books() -> Books:
    """Return the rows of the demo's month, of all its orgs in one partition of the journal, and the days they are of."""
    end_ms = ist.month_end_ms(MONTH)
    rates = table_of(catalog(end_ms))
    events = [event for batch in history(SEED, end_ms, rates) for event in batch.events]
    events.sort(key=_ended_ms)
    first, last = ist.day_of(_ended_ms(events[0])), ist.day_of(_ended_ms(events[-1]))
    rows: list[Row] = []
    for org in ORGS:
        credit = (org.org, ist.day_start_ms(first), "topup", CREDIT_NANO, CREDIT_NANO)
        rows.append(LedgerRow(public_id(0, len(rows) + 1), *credit, "", "", "", ""))
    rows += [_row(event, public_id(0, number), rates) for number, event in enumerate(events, len(rows) + 1)]
    lines = {(rate.model, rate.provider, rate.from_ms): rate_line(rate) for rate in rates}
    return Books(rows, list(range(first, last + 1)), KEYS, lines)


def _ended_ms(event: dict[str, Any]) -> int:
    return ist.ms_of(datetime.fromisoformat(event["time"])) + int(event["data"]["latency_ms"])


def _row(event: dict[str, Any], row_id: int, rates: RateTable) -> RequestRow:
    """Return an event as the row that a worker would have posted when it ended."""
    data, usage = event["data"], event["data"]["usage"] or {}
    cost, at_ms = cost_of_event(data, event["time"], rates)
    row = RequestRow(
        *(row_id, event["subject"], at_ms, _ended_ms(event), event["source"], event["id"]),
        *(data["key_id"], data["tier"], data["byok"], data["model"], data["provider"]),
        *(data["status"], data["error_code"] or "", data["latency_ms"], data["ttft_ms"], data["stream"]),
        usage.get("prompt_tokens", 0),
        usage.get("prompt_tokens_details", {}).get("cached_tokens", 0),
        usage.get("completion_tokens", 0),
        usage.get("completion_tokens_details", {}).get("reasoning_tokens", 0),
        *(cost, 0),
    )
    if is_free(row):
        return row
    rate = rates.in_force(row.model, row.provider, at_ms)
    assert rate is not None
    return msgspec.structs.replace(row, rate_from_ms=rate.from_ms)


def _measure(report: Report, org: DemoOrg, file: Path, prefix: tuple[str, ...]) -> None:
    """Check a proof by both programs, the best of three each."""
    key = KEYS.newest.public
    programs = (
        (*prefix, sys.executable, "-m", "pipeline", "prove", str(file), "--public-key", key),
        (*prefix, sys.executable, str(SCRIPT), str(file), key),
    )
    took_s, shown = [], {}
    for command in programs:
        times = []
        for _ in range(3):
            began = time.perf_counter()
            done = subprocess.run(command, capture_output=True, check=True, timeout=LIMIT_S)
            times.append(time.perf_counter() - began)
        shown = msgspec.json.decode(done.stdout)
        if shown["holds"] is not True or shown["signed_through"] != "2026-10-31":
            raise RuntimeError(f"{org.org}: {shown}")
        took_s.append(min(times))
    zipped = subprocess.run(("gzip", "-c", str(file)), capture_output=True, check=True).stdout
    days = file.read_bytes().count(b'\n{"kind":"checkpoint"')
    report.add(
        *(org.name, shown["rows"], days, file.stat().st_size / 1e6, len(zipped) / 1e6),
        *took_s,
    )


def _can_go_offline() -> bool:
    return (
        shutil.which(OFFLINE[0]) is not None
        and subprocess.run((*OFFLINE, "true"), capture_output=True, check=False).returncode == 0
    )


def _changed(proof: bytes, changes: int) -> str:
    """Return how many of so many random changes of one byte both programs find, the hash of the file made right after each."""
    found, same, draw, script = 0, 0, random.Random(SEED), _script()
    with tempfile.NamedTemporaryFile() as file:
        for changed in _with_a_byte_changed(proof, changes, draw):
            if changed == proof:
                same += 1
                continue
            Path(file.name).write_bytes(changed)
            with redirect_stdout(io.StringIO()):
                by_script = script.main(file.name) != 0
            found += by_script and not _holds(changed)
    return (
        f"Of {changes:,} random changes of one byte of the proof of {TRIAL.name}, the hash of the file made right again after each, "
        f"both programs found {found:,}; {same:,} were in that hash, and so undone by that."
    )


def _with_a_byte_changed(proof: bytes, changes: int, draw: random.Random) -> Iterator[bytes]:
    for _ in range(changes):
        at, flip = draw.randrange(len(proof)), draw.randrange(1, 256)
        changed = proof[:at] + bytes([proof[at] ^ flip]) + proof[at + 1 :]
        body, mark, _ = changed.rpartition(b',"sha256":"')
        yield body + mark + sha256(body).hexdigest().encode() + b'"}\n' if mark else changed


def _holds(proof: bytes) -> bool:
    try:
        check(io.BytesIO(proof))
    except ProofError:
        return False
    return True


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prove", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
