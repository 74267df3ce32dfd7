"""(g1) What one call of `admit` costs for each answer, beside a call of nothing and a look-up.

Owns: a gateway's memory filled as a worker would fill it, and timing calls of the public methods.
Called by: `bench/gateway.py`. It needs no Kafka.

A pass is a loop of a thousand calls; the loop's own time is taken off. The least of the passes is what the
code costs; the others also tell what else the machine did.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from timeit import Timer

from bench.report import Report, percentile
from pipeline import ist
from pipeline.accounts.keys import KeyRecord
from pipeline.accounts.model import TRIAL_REQUESTS_PER_MINUTE, Refused
from pipeline.accounts.verdicts import Verdict
from pipeline.gateway import Gateway
from pipeline.gateway.admission import amounts
from pipeline.gateway.admission.admission import Admission
from pipeline.gateway.admission.gate import Gate
from pipeline.money import NANO_PER_RUPEE

CALLS = 1_000
PASSES = 100
OPEN = 10_000
"""Reservations open at once in the rows that name such."""


@dataclass(frozen=True)
class Row:
    """A statement to time, for each `n` and `name` of a pass; untimed, `before` goes before a whole pass and
    `after` undoes each.
    """

    title: str
    statement: str
    after: str = "pass"
    before: str = "pass"


EACH = "for n, name in numbered:"
CALL, LOOK_UP = "a call of an empty function with these arguments", "a look-up in a dict"
ADMITTED = "gateway.admit('rich', 'k')"
RESERVED = "gateway.admit('rich', 'k', max_cost_inr='0.85', request_id=name)"
RELEASED = "gateway.release('rich', 'k', request_id=name)"
UNNAMED = "gateway.admit('rich', 'many', max_cost_inr=costs[n])"
ROWS = (
    Row(LOOK_UP, "orgs.get('rich')"),
    Row(CALL, "nothing('rich', 'k')"),
    Row("admitted: no cost told", ADMITTED),
    Row("admitted: BYOK", "gateway.admit('rich', 'k', byok=True)"),
    Row("admitted: key with rpm_limit", "gateway.admit('rich', 'limited')"),
    Row("admitted: cost and request_id", RESERVED, after=RELEASED),
    Row(
        "admitted: cost never told before, and request_id",
        "gateway.admit('rich', 'k', max_cost_inr=costs[n], request_id=name)",
        after=RELEASED,
        before="amounts.forget()",
    ),
    Row(
        "admitted: rpm_limit, cost and request_id",
        "gateway.admit('rich', 'limited', max_cost_inr='0.85', request_id=name)",
        after="gateway.release('rich', 'limited', request_id=name)",
    ),
    Row(
        f"admitted: cost, no request_id, {OPEN:,} more open",
        UNNAMED,
        after="gateway.release('rich', 'many', costs[n])",
    ),
    Row("refused: balance used up", "gateway.admit('dry', 'k')"),
    Row(
        "refused: balance below the cost", "gateway.admit('poor', 'k', max_cost_inr='0.85', request_id=name)"
    ),
    Row("refused: budget", "gateway.admit('rich', 'spent')"),
    Row(
        "refused: budget, cost told",
        "gateway.admit('rich', 'spent', max_cost_inr='0.85', request_id=name)",
    ),
    Row("refused: budget, the first time in a second", "fresh[n].admit(now_ms)", before="fresh = gates()"),
    Row("refused: daily limit", "gateway.admit('rich', 'done')"),
    Row("refused: rpm_limit", "gateway.admit('rich', 'fast')"),
    Row("refused: trial key, its minute", "gateway.admit('rich', 'trial', tier='trial')"),
    Row("refused: org that nobody knows", "gateway.admit('stranger', 'k')"),
    Row("refused: key revoked", "gateway.admit('rich', 'revoked')"),
    Row("release, request_id", RELEASED, before=f"{EACH} {RESERVED}"),
    Row(
        f"release of the smallest, no request_id, {OPEN:,} more open",
        "gateway.release('rich', 'many')",
        before=f"{EACH} {UNNAMED}",
    ),
    Row("authenticate: a key that nobody knows", "gateway.authenticate(name)"),
    Row("authenticate: a known key", "gateway.authenticate('br-known')"),
)


async def admit(*, full: bool) -> Report:
    """(g1) What one call costs on each path."""
    report = Report(
        "g1",
        "what a gateway answers from memory, nanoseconds a call",
        ("answer", "least", "median", "p99 pass", "x empty call"),
    )
    passes = PASSES * (10 if full else 1)
    known = _known()
    loop = min(_passes(Row("", "pass"), known, passes))
    call = min(_passes(next(row for row in ROWS if row.title == CALL), known, passes)) - loop
    for row in ROWS:
        took = [each - loop for each in _passes(row, known, passes)]
        least = min(took)
        report.add(row.title, least, percentile(took, 0.5), percentile(took, 0.99), least / call)
    report.notes.append(
        f"A pass is {CALLS:,} calls; {passes} passes. The loop's {loop:.0f} ns are taken off."
    )
    return report


def _passes(row: Row, known: dict[str, object], passes: int) -> list[float]:
    """Return the nanoseconds a call of each pass."""
    timed = Timer(f"{EACH} {row.statement}", row.before, globals=known)
    undo = Timer(f"{EACH} {row.after}", globals=known)
    times = []
    for _ in range(passes):
        times.append(timed.timeit(1) * 1e9 / CALLS)
        undo.timeit(1)
    return times


def _known() -> dict[str, object]:
    """Return what the statements speak of."""

    def nothing(org: str, key_id: str) -> None:
        del org, key_id

    gateway = Gateway(kafka_url="kafka://nowhere:1", node="bench", spool_dir=Path("unused"))
    _tell(gateway._admission)
    for n in range(OPEN):
        gateway.admit("rich", "many", max_cost_inr=f"0.{n * 7919 % 10_000 + 10_000}")
    for _ in range(TRIAL_REQUESTS_PER_MINUTE):
        gateway.admit("rich", "fast")
        gateway.admit("rich", "trial", tier="trial")
    numbered = [(n, f"request-{n}") for n in range(CALLS)]
    costs = [f"0.0{n * 7919 % 100_003:06d}" for n in range(CALLS)]
    return {
        "gateway": gateway,
        "orgs": {"rich": 1},
        "nothing": nothing,
        "numbered": numbered,
        "costs": costs,
        "amounts": amounts,
        "gates": _gates,
        "now_ms": _now_ms(),
    }


def _gates() -> list[Gate]:
    """Return gates of keys whose budget is spent, none of which was asked yet."""
    gates = [Gate() for _ in range(CALLS)]
    for gate in gates:
        gate.set_windows((_window("spent", "budget_exceeded"),))
    return gates


def _tell(made: Admission) -> None:
    made.caught_up(_now_ms())
    windows = _window("spent", "budget_exceeded"), _window("done", "daily_limit_reached")
    made.take_verdict(Verdict("rich", 10**9 * NANO_PER_RUPEE, windows))
    made.take_verdict(Verdict("dry", 0, ()))
    made.take_verdict(Verdict("poor", NANO_PER_RUPEE // 2, ()))
    made.take_key(_record("limited", rpm_limit=10**9))
    made.take_key(_record("fast", rpm_limit=TRIAL_REQUESTS_PER_MINUTE))
    made.take_key(_record("trial", tier="trial"))
    made.take_key(_record("revoked", revoked=True))
    made.take_key(_record("known"))


def _window(key_id: str, code: str) -> Refused:
    month = ist.month_of(_now_ms())
    window = ist.month_start_ms(month), ist.month_end_ms(month)
    return Refused(key_id, code, *window, 500 * NANO_PER_RUPEE, 500_006_100_000)


def _record(
    key_id: str, *, tier: str = "standard", rpm_limit: int | None = None, revoked: bool = False
) -> KeyRecord:
    return KeyRecord(
        org="rich",
        key_id=key_id,
        name="",
        prefix="",
        hash=hashlib.sha256(f"br-{key_id}".encode()).hexdigest(),
        tier=tier,
        created_ms=0,
        rpm_limit=rpm_limit,
        revoked=revoked,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
