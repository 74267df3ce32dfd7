"""Rows of the journal on their way into one table, and where those of a partition end in the database.

Owns: what one insert is made of, and the database's answer to whose it is. Called by: `sink/`, which makes inserts and judges
the answer; `clickhouse/lost.py`, which looks for rows, and `clickhouse/whose.py`, which answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.identity import DeploymentIdentity


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


@dataclass(frozen=True)
class DatabasePlace:
    """Whose the database is, and where the rows of a partition end in it.

    `owners` are all deployments that it says it is of, each with its epoch. `has_before` says whether the row right before
    the asked positions is there, or there is no such position. `highest` is the highest position after them, 0 for none.
    """

    owners: tuple[tuple[DeploymentIdentity, int], ...] = ()
    has_before: bool = True
    highest: int = 0
