"""Put together what several shards answer to one query about the whole platform. Pure: answers in, an answer out.

Owns: by which columns rows of two shards are the same, and what becomes of the others.
Called by: `clickhouse/shards.py`, `operations/verify.py`, `cli/status.py`.

An answer is a JSON array a line. Shards share no row of the journal and no org, so what is by org, by partition or by rate is
listed side by side, and what is by model or day is added up. Numbers are whole and of any size.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

_SUMMED = {"rankings": 1, "status_debited": 0, "verify_days": 2}
"""By query: how many columns from the left say what a row is about. The others are added up."""
_LISTED = frozenset(
    {
        "hour_spenders",
        "reconcile_ledger",
        "verify_filled",
        "verify_model_day",
        "verify_posted_day",
        "verify_usage_day",
        "whatif_platform",
    }
)
"""Queries of which no two shards have a row about the same; of whatif's groups, whoever asks adds up the prices."""
_SPANS_OF_MONTHS = "verify_months"

PUT_TOGETHER = frozenset({*_SUMMED, *_LISTED, _SPANS_OF_MONTHS})
"""The queries that every shard is asked. One with a parameter `partition` is asked of that partition's shard alone."""

_Row = list[int | str]


def put_together(name: str, answers: Sequence[bytes]) -> bytes:
    """Return what a query comes to, given the answer of each shard. One shard's is returned as it is.

    Raises KeyError for a query of which it is not known.
    """
    if len(answers) == 1:
        return answers[0]
    if name in _LISTED:
        return b"".join(answers)
    rows: Iterable[_Row] = (json.loads(line) for answer in answers for line in answer.splitlines())
    if name == _SPANS_OF_MONTHS:
        return _lines(_spans(rows))
    return _lines(_sums(rows, _SUMMED[name]))


def _sums(rows: Iterable[_Row], named: int) -> Iterable[_Row]:
    """Add up rows that begin with the same `named` columns."""
    found: dict[tuple[int | str, ...], list[int]] = {}
    for row in rows:
        values = [int(value) for value in row[named:]]
        before = found.setdefault(tuple(row[:named]), [0] * len(values))
        before[:] = [one + other for one, other in zip(before, values, strict=True)]
    return ([*names, *values] for names, values in found.items())


def _spans(rows: Iterable[_Row]) -> Iterable[_Row]:
    """Return the first and the last day of each month, the oldest first, given those of each shard as YYYY-MM-DD."""
    found: dict[str, tuple[str, str]] = {}
    for row in rows:
        first, last = map(str, row)
        known_first, known_last = found.get(first[:7], (first, last))
        found[first[:7]] = min(first, known_first), max(last, known_last)
    return (list(span) for span in sorted(found.values()))


def _lines(rows: Iterable[_Row]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
