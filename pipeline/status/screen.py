"""How `metering status` tells what was found: a screen of 80 columns, and the same as JSON.

Owns: both forms. Pure. Called by: `cli/status.py`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

from pipeline import ist
from pipeline.rupee_text import grouped, grouped_count
from pipeline.status.found import (
    Backlog,
    DeploymentFound,
    KafkaFound,
    LastVerify,
    LetterCount,
    OrderCount,
    Unknown,
)
from pipeline.status.judged import JudgedPart, PartCondition, is_well, judged, unknown_figures

COLUMNS = 80
_NAME, _CONDITION = 14, 9
MINUTE_S = 60


def as_json(found: DeploymentFound) -> dict[str, object]:
    """Return what was found as data. Money is in nano-rupees, exact; a figure that is not known is null, and `unknown` says why; so is a `verify` that has never been."""
    parts = judged(found)
    kafka = found.kafka if isinstance(found.kafka, KafkaFound) else None
    return {
        "at": ist.isoformat(found.at_ms),
        "deployment": found.deployment,
        "is_well": is_well(found, parts),
        "parts": {part.name: {"condition": part.condition.value, "detail": part.detail} for part in parts},
        "lag": {role: _backlog(kafka.backlogs[role] if kafka else None) for role in ("worker", "sink")},
        "events": _events(kafka.posted if kafka else None),
        "debited_today": _debited(found),
        "dead_letters": _letters(kafka.dead_letters if kafka else None),
        "open_payments": _orders(kafka.orders if kafka else None),
        "verify": _verified(kafka.verified if kafka else None),
        "unknown": unknown_figures(found),
    }


def as_text(found: DeploymentFound) -> str:
    """Return the screen, its lines no longer than 80 columns."""
    parts = judged(found)
    lines = [_heading(found, parts), ""]
    for part in parts:
        shown = part.condition.value if part.is_well else part.condition.value.upper()
        lines += _row(part.name, shown, part.detail)
    lines.append("")
    unknown = unknown_figures(found)
    for name, told in _figures(found):
        lines += _row(name, "", told)
    for name, why in unknown.items():
        lines += _row(name.replace("_", " "), "", f"not known: {why}")
    return "\n".join(lines) + "\n"


def _heading(found: DeploymentFound, parts: list[JudgedPart]) -> str:
    at = ist.datetime_of(found.at_ms).strftime("%Y-%m-%d %H:%M:%S IST")
    wrong = sum(part.condition is PartCondition.WRONG for part in parts)
    if is_well(found, parts):
        verdict = "all is well"
    elif wrong:
        verdict = "1 part is not well" if wrong == 1 else f"{wrong} parts are not well"
    else:
        verdict = "not everything could be asked"
    return f"{found.deployment} at {at}: {verdict}"


def _row(name: str, condition: str, detail: str) -> list[str]:
    head = f"{f'{name} ':<{_NAME}}{condition:<{_CONDITION if condition else 0}}"
    return textwrap.wrap(
        detail,
        COLUMNS,
        initial_indent=head,
        subsequent_indent=" " * (_NAME + (_CONDITION if condition else 0)),
        break_on_hyphens=False,
    )


def _figures(found: DeploymentFound) -> Iterator[tuple[str, str]]:
    """Yield each figure that is known, in words."""
    kafka = found.kafka if isinstance(found.kafka, KafkaFound) else None
    if kafka is not None:
        for role in ("worker", "sink"):
            backlog = kafka.backlogs[role]
            if isinstance(backlog, Backlog):
                yield f"{role} lag", _backlog_in_words(backlog)
        if not isinstance(kafka.posted, Unknown):
            yield (
                "events",
                f"{grouped_count(kafka.posted)} posted in the last minute: {kafka.posted / MINUTE_S:.1f} a second",
            )
    if not isinstance(found.debited_nano, Unknown):
        yield "debited", f"{grouped(found.debited_nano)} today, for requests of {_day(found)} IST"
    if kafka is not None:
        if isinstance(kafka.dead_letters, LetterCount):
            yield "dead letters", _letters_in_words(kafka.dead_letters)
        if isinstance(kafka.orders, OrderCount):
            least = "" if kafka.orders.is_whole else "at least "
            yield (
                "payments",
                f"{least}{grouped_count(kafka.orders.unpaid)} open: orders of the last 7 days, not paid",
            )


def _backlog_in_words(backlog: Backlog) -> str:
    waits = f", the oldest waits for {backlog.longest_ms / 1000:.1f} s" if backlog.oldest_ms else ""
    offsets = "offset" if backlog.total == 1 else "offsets"
    return f"{grouped_count(backlog.total)} {offsets}{waits}"


def _letters_in_words(letters: LetterCount) -> str:
    of = ", ".join(f"{grouped_count(count)} {reason}" for reason, count in sorted(letters.by_reason.items()))
    least = "" if letters.is_whole else "at least "
    return f"{least}{grouped_count(sum(letters.by_reason.values()))} in 24 hours{': ' if of else ''}{of}"


def _day(found: DeploymentFound) -> str:
    return ist.date_of(ist.day_of(found.at_ms)).isoformat()


def _backlog(backlog: Backlog | Unknown | None) -> dict[str, object] | None:
    if not isinstance(backlog, Backlog):
        return None
    by_partition: Mapping[str, int] = {str(each): offsets for each, offsets in backlog.offsets.items()}
    return {"offsets": backlog.total, "oldest_ms": backlog.longest_ms, "by_partition": by_partition}


def _events(posted: int | Unknown | None) -> dict[str, object] | None:
    if not isinstance(posted, int):
        return None
    return {"posted_last_minute": posted, "a_second": round(posted / MINUTE_S, 3)}


def _debited(found: DeploymentFound) -> dict[str, object] | None:
    if isinstance(found.debited_nano, Unknown):
        return None
    return {"day": _day(found), "nano": found.debited_nano}


def _letters(letters: LetterCount | Unknown | None) -> dict[str, object] | None:
    if not isinstance(letters, LetterCount):
        return None
    total = sum(letters.by_reason.values())
    return {"last_24_hours": total, "by_reason": dict(letters.by_reason), "is_whole": letters.is_whole}


def _orders(orders: OrderCount | Unknown | None) -> dict[str, object] | None:
    if not isinstance(orders, OrderCount):
        return None
    return {"unpaid_orders": orders.unpaid, "is_whole": orders.is_whole}


def _verified(verified: LastVerify | Unknown | None) -> dict[str, object] | None:
    if not isinstance(verified, LastVerify):
        return None
    return {"ended_at": ist.isoformat(verified.ended_ms), "differences": verified.differences}
