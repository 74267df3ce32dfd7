"""Put back what an engine lost when it was killed in the middle of an insert.

Owns: finding out what of a confirmed range is missing in its table and the roll-ups, and adding exactly that.
Called by: `sink/partition.py`, when a range was sent again, or is too old for that and half there. Next: `clickhouse/client.py`.

An engine without a cluster notes the token of a block, and then puts the block into its place. Killed in
between, it knows the token of a block that it does not have: sent again, the block is dropped as known.
(Of replicated tables Keeper takes token and block in one step.) So a range that was sent again to an engine
that has started meanwhile is compared with what is there. It is the newest range of its partition and
confirmed, so nobody else adds to it, and what still arrives of its earlier tries is dropped by token.

Rows come back by way of a table of their own, of which partitions are attached: that feeds no roll-up. A
roll-up gets the difference between the rows and itself. Every step may be cut off anywhere and done again.
"""

from __future__ import annotations

import logging
import time
import zlib

from pipeline import ist
from pipeline.clickhouse import fill
from pipeline.clickhouse.client import Engine, EngineUnavailable
from pipeline.clickhouse.queries import query
from pipeline.clickhouse.staging import make_like
from pipeline.inserts import JournalInsert
from pipeline.journal import JSON_ARRAYS, LEDGER, REQUESTS, RequestRow, Row, decode_payload, encode_rows

log = logging.getLogger(__name__)

START_MARGIN_S = 10
SCAN = {"max_execution_time": 600}
TRIES = 3

_RANGES = {REQUESTS: "ids", LEDGER: "ledger_ids"}
"""By kind of rows: what the queries about the ids of a range are called."""
_ROLL_UPS = {
    "usage_day": (
        "org",
        "day",
        "model",
        "key_id",
        "provider",
        "byok",
        "tier",
        "requests",
        "errors",
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "beside_tokens",
        "cost_nano",
        "last_id",
    ),
    "model_day": ("day", "model", "partition", "requests", "tokens", "last_id"),
    fill.POSTED_DAY: fill.COLUMNS,
}


def may_have_lost(engine: Engine, sent_s: float) -> bool:
    """Return whether an engine may have been killed within the last `sent_s` seconds."""
    if engine.cluster is not None:
        return False
    return engine.query("SELECT uptime()", row=tuple[int])[0][0] <= sent_s + START_MARGIN_S


def insert(engine: Engine, rows: JournalInsert) -> None:
    """Put rows of the journal into their table, in whatever format they are. Raises what the engine raises."""
    if rows.format == JSON_ARRAYS:
        engine.insert(rows.table, rows.columns, rows.payload, rows.token)
    else:
        engine.insert_blocks(rows.table, rows.payload, rows.rows, rows.token)


def count_rows(engine: Engine, sent: JournalInsert) -> int:
    """Return how many rows of an insert are in its table. Raises what the engine raises."""
    bound = query(f"count_{_RANGES[sent.kind]}").of_platform(**_place(sent))
    return engine.query(bound.sql, bound.parameters, row=tuple[int])[0][0]


def roll_ups_lack(engine: Engine, sent: JournalInsert) -> bool:
    """Return whether a roll-up lacks rows of an insert, which are all in their table and the newest of a partition.

    A roll-up takes the rows of a month all or none, and notes with each group the highest id in it.
    """
    bound = query("range_lacking").of_platform(low=sent.low, high=sent.high, partition=sent.partition)
    return engine.query(bound.sql, bound.parameters, row=tuple[int], settings=SCAN)[0][0] > 0


def prepare(engine: Engine, sent: JournalInsert) -> str:
    """Make the table by way of which rows come back, and return its name.

    Then the caller makes sure that it still is the owner of the partition, and calls `put_back`. An owner
    that comes later drops this table first, so what an earlier one had begun is done before, or never.
    """
    staging = f"{_prefix(sent)}{time.time_ns()}"
    make_like(engine, staging, sent.table)
    return staging


def put_back(engine: Engine, sent: JournalInsert, staging: str) -> int:
    """Add the rows that are missing in the table, and return how many were.

    Raises what the engine raises; then it is unknown what was done, and all is to be done again.
    """
    _drop_all(engine, sent, but=staging)
    missing = _missing(engine, sent)
    if missing:
        blocks = b"".join(record.value for record in encode_rows(sent.kind, missing))
        engine.insert_blocks(staging, blocks, len(missing), sent.token)
    staged = "SELECT DISTINCT _partition_id FROM {staging:Identifier}"
    for (part,) in engine.query(staged, {"staging": staging}, row=tuple[str]):
        engine.command(f"ALTER TABLE {sent.table} ATTACH PARTITION ID '{part}' FROM {staging}")
    _drop_all(engine, sent)
    log.warning("the engine had lost %d rows of %s; they are back", len(missing), sent.token)
    return len(missing)


def complete_roll_ups(engine: Engine, sent: JournalInsert) -> int:
    """Add what the roll-ups lack of the orgs and days of request rows; return how many rows were added.

    To be called when the rows themselves are all there. Raises as `put_back` does.
    """
    added = 0
    for table, columns in _ROLL_UPS.items():
        for number in range(TRIES):
            bound = query(f"range_{table}").of_platform(
                low=sent.low, high=sent.high, partition=sent.partition
            )
            payload = engine.query_bytes(
                bound.sql, bound.parameters, output="JSONCompactEachRow", settings=SCAN
            )
            if not payload:
                break
            # Done again, it is the same rows under the same token; the number is for a token known in vain.
            engine.insert(table, columns, payload, f"{sent.token}:{zlib.crc32(payload):08x}:{number}")
            added += payload.count(b"\n")
            log.warning("the engine had lost a block of %s for %s; it is back", table, sent.token)
        else:
            raise EngineUnavailable(f"{table} does not keep what it is given for {sent.token}")
    return added


def _missing(engine: Engine, sent: JournalInsert) -> list[Row]:
    """Return the rows of an insert that are not there."""
    bound = query(f"range_{_RANGES[sent.kind]}").of_platform(**_place(sent))
    there = {row[0] for row in engine.query(bound.sql, bound.parameters, row=tuple[int], settings=SCAN)}
    return [row for row in decode_payload(sent.kind, sent.payload, sent.format) if row.id not in there]


def _place(sent: JournalInsert) -> dict[str, object]:
    """Return where an insert's rows are: their ids and, as requests are kept by month, the first and last of their days.

    The rows are decoded for that: it is asked for after an outage, and not for each insert.
    """
    place: dict[str, object] = {"low": sent.low, "high": sent.high, "partition": sent.partition}
    if sent.kind == REQUESTS:
        rows = decode_payload(sent.kind, sent.payload, sent.format)
        days = [ist.day_of(row.at_ms) for row in rows if isinstance(row, RequestRow)]
        place |= {
            "from_day": ist.date_of(min(days)).isoformat(),
            "to_day": ist.date_of(max(days)).isoformat(),
        }
    return place


def _prefix(sent: JournalInsert) -> str:
    return f"again_{sent.table}_{sent.partition}_"


def _drop_all(engine: Engine, sent: JournalInsert, but: str = "") -> None:
    """Drop what was made by `prepare`, and wait until nothing reads it any more."""
    found = engine.query(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND startsWith(name, {prefix:String})",
        {"prefix": _prefix(sent)},
        row=tuple[str],
    )
    for (name,) in found:
        if name != but:
            engine.command(f"DROP TABLE IF EXISTS {name} SYNC")
