"""Rows of the journal on their way into one table.

Owns: what one insert is made of. Called by: `sink/`, which makes them; `clickhouse/lost.py`, which looks for their rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class JournalInsert:
    """All rows of one kind in a range of one partition's journal: their public ids are `low` to `high`.

    `payload` is what the journal's records hold, in their `format` (`journal/records.py`); `columns` are those of an
    array of format 1, while blocks name their own. `token` is what ClickHouse knows the insert by when it is sent
    again.
    """

    kind: str
    table: str
    format: int
    columns: Sequence[str]
    partition: int
    low: int
    high: int
    rows: int
    payload: bytes
    token: str
