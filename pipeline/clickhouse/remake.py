"""Empty the database, or make its roll-ups again from the rows.

Owns: which tables are this project's, and the way a roll-up is replaced. Called by: `sink/rebuild.py`, while no sink writes.

Both may be cut off anywhere and done again. A roll-up is made beside the one in use and takes its place a year at a time, so
whoever reads sees the former sums or the new ones.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from datetime import date

from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.migrate import load, migrate, render, told_together
from pipeline.clickhouse.queries import WORDS
from pipeline.clickhouse.shards import Database
from pipeline.clickhouse.sql_files import sql_files
from pipeline.clickhouse.staging import make_like
from pipeline.journal import public_id

log = logging.getLogger(__name__)

STAGING = "made_again_"
SCAN = {"max_execution_time": 600}
_MADE = re.compile(r"CREATE (TABLE|MATERIALIZED VIEW) IF NOT EXISTS (\w+)")

_ROLL_UPS = {
    "usage_day": (
        "org, day, model, key_id, provider, byok, tier",
        (f"count() AS requests, countIf({WORDS['failed']}) AS errors, sum(prompt_tokens) AS prompt_tokens, "
        "sum(cached_tokens) AS cached_tokens, sum(completion_tokens) AS completion_tokens, "
        "sum(beside_tokens) AS beside_tokens, sum(cost_nano) AS cost_nano, max(id) AS last_id"),
        ("requests", "errors", "prompt_tokens", "cached_tokens", "completion_tokens", "beside_tokens",
         "cost_nano", "last_id"),
    ),
    "model_day": (
        "day, model, partition",
        f"count() AS requests, sum(toUInt64{WORDS['tokens']}) AS tokens, max(id) AS last_id",
        ("requests", "tokens", "last_id"),
    ),
    "posted_day": (
        "org, posted_day, day",
        "count() AS requests, sum(cost_nano) AS cost_nano, max(id) AS last_id",
        ("requests", "cost_nano", "last_id"),
    ),
}  # fmt: skip
"""By roll-up: what it groups by, its sums as of rows, and their columns."""


def empty(database: Database) -> None:
    """Drop all tables and views of the migrations, and make them again without a row. Raises what the engine raises."""
    for engine, *_ in told_together(database):
        _drop_all(engine)
    migrate(database)


def _drop_all(engine: Engine) -> None:
    text = "\n".join(migration.text for migration in load(sql_files("migrations")))
    made = _MADE.findall(text)
    for kind, name in sorted(made, key=lambda one: one[0] == "TABLE"):
        word = "TABLE" if kind == "TABLE" else "VIEW"
        engine.command(render(f"DROP {word} IF EXISTS {name} {{{{on_cluster}}}} SYNC", engine.cluster))
    engine.command(render("DROP TABLE IF EXISTS schema_versions {{on_cluster}} SYNC", engine.cluster))


def drop_rows_after(engine: Engine, partition: int, position: int) -> None:
    """Delete the rows of a partition after a position; its roll-ups keep their sums. Raises what the engine raises."""
    above = {"partition": partition, "last": public_id(partition, position)}
    for table in ("events", "ledger"):
        engine.command(
            render(
                f"ALTER TABLE {table} {{{{on_cluster}}}} DELETE WHERE id % 1024 = {above['partition']} AND id > {above['last']} "
                "SETTINGS mutations_sync = 2",
                engine.cluster,
            )
        )


def days_with_rows(engine: Engine) -> list[date]:
    """Return the IST days that have rows of requests, oldest first."""
    engine.catch_up()
    found = engine.query(
        "SELECT DISTINCT toString(day) FROM events ORDER BY 1", row=tuple[str], settings=SCAN
    )
    return [date.fromisoformat(day) for (day,) in found]


def days_with_sums_or_rows(engine: Engine) -> list[date]:
    """Return the IST days from the first that has rows on that have rows or sums, oldest first.

    Sums of days before are of rows that were dropped.
    """
    rows = days_with_rows(engine)
    asked = "SELECT DISTINCT toString(day) FROM {} ORDER BY 1"
    sums = [
        date.fromisoformat(day)
        for table in _ROLL_UPS
        for (day,) in engine.query(asked.format(table), row=tuple[str], settings=SCAN)
    ]
    return sorted({*rows, *(day for day in sums if rows and day > rows[0])})


def make_roll_ups(engine: Engine, first: date, last: date, replaced: Callable[[], None]) -> None:
    """Make the sums of the IST days `first` to `last` again from the rows; those of other days stay.

    `replaced` is called once a roll-up has its new sums. Raises what it and the engine raise.
    """
    engine.catch_up()
    for table, (groups, sums, columns) in _ROLL_UPS.items():
        _drop_staging(engine, table)
        staging = f"{STAGING}{table}_{time.time_ns()}"
        make_like(engine, staging, table)
        names = f"({groups}, {', '.join(columns)})"
        years = range(first.year, last.year + 1)
        for year in years:
            others = f"toYear(day) = {year} AND (day < '{first}' OR day > '{last}')"
            engine.command(
                f"INSERT INTO {staging} {names} SELECT {groups}, {', '.join(columns)} FROM {table} WHERE {others}"  # noqa: S608 - names and days of ours
            )
        for day in (day for day in days_with_rows(engine) if first <= day <= last):
            made = (
                f"day, beside_tokens, toUInt16(id % 1024) AS partition, {WORDS['posted_day']} AS posted_day"
            )
            rows = f"(SELECT *, {made} FROM events WHERE day = '{day}')"  # noqa: S608 - see above
            engine.command(
                f"INSERT INTO {staging} {names} SELECT {groups}, {sums} FROM {rows} GROUP BY {groups}"  # noqa: S608 - see above
            )
        for year in years:
            engine.command(f"ALTER TABLE {table} REPLACE PARTITION {year} FROM {staging}")
        replaced()
        _drop_staging(engine, table)
        log.info("%s is made again from %s to %s", table, first, last)


def _drop_staging(engine: Engine, table: str) -> None:
    found = engine.query(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND startsWith(name, {prefix:String})",
        {"prefix": f"{STAGING}{table}_"},
        row=tuple[str],
    )
    for (name,) in found:
        engine.command(f"DROP TABLE IF EXISTS {name} SYNC")
