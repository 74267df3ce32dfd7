"""(t) Times of the past: a balance at any instant, and what requests would have cost by other routes, on many rows.

Owns: the ledgers beside a year of requests, what is asked, and that the answers are right to the nano-rupee.
Called by: `bench/__main__.py`. Next: `bench/year.py`, `bench/asking.py`.

The process is the product's server without Kafka: the engine, and the API on a socket. The owner of all accounts is played
here and answers at once; in the product the first question about an org also takes the way to its worker and back. The
rankings are not asked, so their roll-up is not filled: a directory that is kept for this is for nothing else.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from multiprocessing import get_context
from pathlib import Path
from typing import cast

import httpx2
import msgspec

from bench.answers import SECRET, serving
from bench.asking import Asked, HttpRequest, ask_http
from bench.report import Report, percentile
from bench.year import ID_STEP, LARGE_ORG, MODELS, ORGS, YEAR_MS, fill, last_number, newest_ms
from pipeline import ist
from pipeline.accounts.commands import View
from pipeline.accounts.results import AccountView
from pipeline.api.http.parameters import last_days
from pipeline.api.http.sessions import issue
from pipeline.api.services.accounts import AccountServices
from pipeline.api.services.context import AppContext, rate_of
from pipeline.catalog.rates import Rate, RateTable, Tier
from pipeline.cli.whatif import groups_of
from pipeline.clickhouse.client import Engine, open_engine
from pipeline.clickhouse.migrate import migrate
from pipeline.journal import LEDGER, LedgerRow, encode_rows
from pipeline.money import NANO_PER_RUPEE
from pipeline.operations.verify import asking
from pipeline.whatif import repriced

PARTITION = 1
"""Of all rows: then position 0, of which no row is, has an id too, and the credits of the beginning are there."""
FEEDS = ("model_day_feed",)
PROVIDERS = 12
INPUT_NANO, OUTPUT_NANO = 12_500, 50_000
"""What every request of the year cost, a token."""
WEEKS = 52
CREDIT_NANO = 10_000 * NANO_PER_RUPEE
PATHS = 2_000
COMPARED = 4
UNBOUNDED = 1_000_000
EMAIL = "bench@example.com"
SCAN = {"max_execution_time": 600}


@dataclass(frozen=True)
class Owner:
    """Plays the owner of all accounts: all that there is was posted, up to now."""

    next_id: int
    now_ms: int

    async def ask(self, command: View) -> AccountView:
        """Return what is asked for here: up to where everything is posted."""
        return AccountView(command.org, "", "", True, 0, 0, None, None, [], self.next_id, self.now_ms)


@dataclass(frozen=True)
class Asker:
    """Asks a server over HTTP, from a process of its own."""

    context: AppContext
    process: ProcessPoolExecutor
    seconds: float

    async def ask(self, requests: list[HttpRequest], at_once: int) -> Asked:
        """Return what came of it, from a server that has just begun."""
        async with serving(self.context) as port:
            return await asyncio.get_running_loop().run_in_executor(
                self.process, ask_http, port, requests, at_once, self.seconds
            )

    def token(self, org: str) -> str:
        """Return a session of an org's owner."""
        return issue(SECRET, org, "owner", EMAIL, self.context.now_ms())


async def past(*, events: int, full: bool, keep: Path | None = None) -> Report:
    """(t) Balances at past instants and what-ifs on `events` requests of a year.

    The engine's data is kept in `keep` and used again where it has as many.
    """
    report = Report(
        "t",
        f"the past on {events:,} requests of a year, {ORGS:,} orgs, one of them with a tenth of all",
        ("question", "org", "at once", "p50 ms", "p99 ms", "most ms", "answers"),
    )
    home = keep or Path(tempfile.mkdtemp(prefix="metering-bench-"))
    engine = open_engine(f"chdb://{home}")
    try:
        filled_s = await asyncio.to_thread(_fill, engine, events)
        report.notes.append(f"Filled in {filled_s:,.0f} s.")
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            asker = Asker(_context(engine), process, 15.0 if full else 3.0)
            await _balances(engine, asker, report)
            await _whatifs(asker, report)
        await _operators(engine, report)
    finally:
        engine.close()
        if keep is None:
            shutil.rmtree(home, ignore_errors=True)
    return report


def _fill(engine: Engine, events: int) -> float:
    """Have the requests, and of each org one credit before all of them. Return the seconds it took."""
    migrate(engine)
    for feed in FEEDS:
        engine.command(f"DROP TABLE IF EXISTS {feed} SYNC")
    took_s = fill(engine, events, partition=PARTITION)
    engine.command("TRUNCATE TABLE ledger")
    start_ms = newest_ms() - YEAR_MS
    _put(
        engine,
        (
            LedgerRow(
                *(PARTITION, f"org_{number}", start_ms, "topup", CREDIT_NANO, CREDIT_NANO),
                *("", "", "", ""),
            )
            for number in range(ORGS)
        ),
        "first-credits",
    )
    return took_s


def _put(engine: Engine, rows: Iterable[LedgerRow], token: str) -> None:
    entries = list(rows)
    blocks = b"".join(record.value for record in encode_rows(LEDGER, entries))
    engine.insert_blocks("ledger", blocks, len(entries), f"{token}-{time.time_ns()}")


def _context(engine: Engine) -> AppContext:
    now_ms = newest_ms() + 60_000
    owner = Owner((last_number(engine) + 1) * ID_STEP + PARTITION, now_ms)
    return AppContext(
        database=engine,
        key_names={},
        rates=_rates(),
        session_secret=SECRET,
        now_ms=lambda: now_ms,
        accounts=cast("AccountServices", owner),
        address_requests=rate_of(UNBOUNDED),
        session_requests=rate_of(UNBOUNDED),
    )


def _rates(factor: int = 1) -> RateTable:
    """Return the catalog that charged the year's requests, or one that is dearer by a factor.

    It has a tier of every fourth model, and a rate of every fifth that starts within a day, at the same prices as all.
    """
    table = RateTable()
    dear, dearer = factor * INPUT_NANO, factor * OUTPUT_NANO
    later_ms = newest_ms() - YEAR_MS // 3
    for model in range(MODELS):
        for provider in range(PROVIDERS):
            route = f"model-{model}", f"provider-{provider}"
            tiers = (Tier(1_000, dear, dear, dearer),) if model % 4 == 0 else ()
            table.add(Rate(*route, 0, dear, dear, dearer, tiers=tiers))
            if model % 5 == 0:
                table.add(Rate(*route, later_ms, dear, dear, dearer))
    return table


def _instants(count: int) -> list[int]:
    """Return instants of the year, the same ones each time."""
    draw, last_ms = random.Random("instants"), newest_ms()
    return [last_ms - draw.randrange(YEAR_MS) for _ in range(count)]


async def _balances(engine: Engine, asker: Asker, report: Report) -> None:
    """Ask for balances: of an org that was credited once, before all its requests, and then each week."""
    name = "GET /me/balance?at=T"
    firsts = [
        _balance(asker, f"org_{number}", at_ms) for number, at_ms in enumerate(_instants(ORGS - 1), start=1)
    ]
    _add(report, f"{name}, first question", "any", 1, await asker.ask(firsts, 1))
    for ledger in ("credited once", "credited every week"):
        if ledger != "credited once":
            await asyncio.to_thread(_credit_weekly, engine)
        asked = [_balance(asker, LARGE_ORG, at_ms) for at_ms in _instants(PATHS)]
        for at_once in (1, 4):
            _add(report, name, f"the large one, {ledger}", at_once, await asker.ask(asked, at_once))
        summing_ms = await _compare(engine, asker)
    report.notes.append(
        f"{2 * COMPARED} of these balances were compared with the sums of all rows up to the instant: equal. Summing took "
        f"{min(summing_ms):,.0f} to {max(summing_ms):,.0f} ms."
    )


def _balance(asker: Asker, org: str, at_ms: int) -> HttpRequest:
    return HttpRequest(f"/me/balance?at={ist.isoformat(at_ms).replace('+', '%2B')}", asker.token(org))


def _credit_weekly(engine: Engine) -> None:
    """Give the large org a credit each week. Each takes the id of a request of another org, as no two rows of one share theirs."""
    numbers = last_number(engine)
    # A tenth of all requests, those whose numbers end in 0, are the large org's: their ids divided by ID_STEP end in 1.
    at = [numbers * week // WEEKS // 10 * 10 + 2 for week in range(1, WEEKS)]
    edges = [number * ID_STEP for number in at]
    spent = dict(
        engine.query(
            "SELECT arrayCount(edge -> edge < id, {edges:Array(UInt64)}) AS edge, sum(cost_nano) FROM events"
            " WHERE org = {org:String} GROUP BY edge",
            {"edges": edges, "org": LARGE_ORG},
            row=tuple[int, int],
            settings=SCAN,
        )
    )
    start_ms = newest_ms() - YEAR_MS + 1
    balance_nano, rows = CREDIT_NANO, []
    for week, number in enumerate(at):
        balance_nano += CREDIT_NANO - spent.get(week, 0)
        at_ms = start_ms + int((number - 1) * (YEAR_MS / numbers)) + 40
        rows.append(
            LedgerRow(
                *(number * ID_STEP + PARTITION, LARGE_ORG, at_ms, "topup", CREDIT_NANO, balance_nano),
                *("", "", "", ""),
            )
        )
    _put(engine, rows, "weekly-credits")


async def _compare(engine: Engine, asker: Asker) -> list[float]:
    """Return how many milliseconds it takes to sum all rows up to some instants. Raises RuntimeError where a balance is another."""
    took_ms = []
    async with serving(asker.context) as port, httpx2.AsyncClient(timeout=60, trust_env=False) as client:
        for at_ms in _instants(COMPARED):
            request = _balance(asker, LARGE_ORG, at_ms)
            answer = await client.get(
                f"http://127.0.0.1:{port}{request.path}", headers={"Authorization": f"Bearer {request.token}"}
            )
            told = json.loads(answer.text, parse_float=Decimal)["balance_inr"]
            began = time.perf_counter()
            if told * NANO_PER_RUPEE != await asyncio.to_thread(_summed, engine, at_ms):
                raise RuntimeError(f"the balance at {at_ms} is not {told}")
            took_ms.append((time.perf_counter() - began) * 1000)
    return took_ms


def _summed(engine: Engine, at_ms: int) -> int:
    sums = [
        engine.query(
            f"SELECT sum(toInt128({column})) FROM {table} WHERE org = {{org:String}} AND posted_ms <= {{at:Int64}}",
            {"org": LARGE_ORG, "at": at_ms},
            row=tuple[int],
            settings=SCAN,
        )[0][0]
        for table, column in (("ledger", "amount_nano"), ("events", "cost_nano"))
    ]
    return sums[0] - sums[1]


async def _whatifs(asker: Asker, report: Report) -> None:
    """Ask for what-ifs; with no other route asked for they have to come to exactly what was debited."""
    now_ms = asker.context.now_ms()
    for days in (30, 366):
        of = last_days(now_ms, days)
        for org, orgs in (("the large one", [LARGE_ORG]), ("any", [f"org_{n}" for n in range(1, PATHS)])):
            body = {"from": str(of.first), "to": str(of.last), "routes": _routes()}
            requests = [_whatif(asker, one, body) for one in orgs]
            _add(report, f"POST /me/whatif, {days} days", org, 1, await asker.ask(requests, 1))
        await _exact(asker, {**body, "routes": {}})
    report.notes.append("As they were served, the large org's requests came to exactly what they cost.")


def _routes() -> dict[str, object]:
    """Return another route for every model."""
    return {
        f"model-{model}": {"model": f"model-{(model + 1) % MODELS}", "provider": "provider-0"}
        for model in range(MODELS)
    }


def _whatif(asker: Asker, org: str, body: object) -> HttpRequest:
    return HttpRequest("/me/whatif", asker.token(org), msgspec.json.encode(body))


async def _exact(asker: Asker, body: object) -> None:
    """Raise RuntimeError where the present catalog does not give what was debited."""
    request = _whatif(asker, LARGE_ORG, body)
    async with serving(asker.context) as port, httpx2.AsyncClient(timeout=60, trust_env=False) as client:
        answer = await client.post(
            f"http://127.0.0.1:{port}{request.path}",
            content=request.body,
            headers={"Authorization": f"Bearer {request.token}", "Content-Type": "application/json"},
        )
    told = json.loads(answer.text, parse_float=Decimal)
    if not told["actual_inr"] or told["actual_inr"] != told["whatif_inr"]:
        raise RuntimeError(f"{answer.text[:300]}")


async def _operators(engine: Engine, report: Report) -> None:
    """Reprice the year of all orgs by another catalog, as `metering whatif` does."""
    year, rates = last_days(newest_ms(), 366), _rates(2)
    began = time.perf_counter()
    found = repriced(await groups_of(asking(engine), rates, year.first, year.last, ""), rates, {})
    took_ms = (time.perf_counter() - began) * 1000
    if found.whatif_nano != 2 * found.actual_nano or found.left_out:
        raise RuntimeError(f"{found.whatif_nano} is not twice {found.actual_nano}")
    _add(report, "metering whatif, 366 days", "all", 1, Asked([took_ms], 0, took_ms / 1000))


def _add(report: Report, question: str, org: str, at_once: int, asked: Asked) -> None:
    took_ms = asked.took_ms
    report.add(
        *(question, org, at_once, percentile(took_ms, 0.5), percentile(took_ms, 0.99), max(took_ms)),
        len(took_ms),
    )
    print(report.markdown().splitlines()[len(report.rows) + 3], flush=True)
