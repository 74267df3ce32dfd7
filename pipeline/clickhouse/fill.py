"""Add to a roll-up the rows from before there was one.

Owns: what a roll-up that a migration has made lacks of a partition of the journal, and the mark that it lacks nothing any more.
Called by: `sink/partition.py`, when a sink has taken a partition over. Next: `clickhouse/client.py`.

A migration cannot do it: a range that was inserted before it may be sent again after it, and a view takes what it has not seen.
Once a partition's last range is finished, nothing up to there is under way; so what these rows come to beyond what the roll-up
has is what the roll-up lacks, whoever has added what. Every step may be cut off anywhere and done again.
"""

from __future__ import annotations

import logging
import time
import zlib

import msgspec

from pipeline.clickhouse.client import Engine, EngineUnavailable
from pipeline.clickhouse.queries import query
from pipeline.journal import public_id

log = logging.getLogger(__name__)

POSTED_DAY = "posted_day"
COLUMNS = ("org", "posted_day", "day", "requests", "cost_nano", "last_id")
ADDED_AT_ONCE = 200_000
"""So many sums are one insert: some 12 MB."""
SCAN = {"max_execution_time": 600, "max_bytes_before_external_group_by": 1_000_000_000}
TRIES = 3


def fill(engine: Engine, partition: int, last: int) -> int:
    """Add what the roll-ups lack of a partition's rows up to a position, unless that was done before.

    None of these rows may be under way. A later owner of the partition may do the same at the same time, with the same tokens, or
    have done it and gone on: then nothing up to the position is lacking, whatever it has in hand.
    Returns how many sums were added. Raises what the engine raises; then it is to be done again.
    """
    bound = query("verify_filled").of_platform(roll_up=POSTED_DAY)
    if (partition,) in engine.query(bound.sql, bound.parameters, row=tuple[int]):
        return 0
    bound = query("fill_months").of_platform(partition=partition)
    months = engine.query(bound.sql, bound.parameters, row=tuple[str, str], settings=SCAN)
    added = sum(_fill_days(engine, partition, last, days) for days in months)
    mark = msgspec.json.encode((POSTED_DAY, partition)) + b"\n"
    engine.insert("filled_roll_ups", ("roll_up", "partition"), mark, f"filled-{time.time_ns()}")
    if added:
        log.info("%s has the earlier rows of partition %d now: %d sums", POSTED_DAY, partition, added)
    return added


def _fill_days(engine: Engine, partition: int, last: int, days: tuple[str, str]) -> int:
    """Add what the roll-up lacks of the days of one month, and return how many sums that was.

    Of one month, as an insert of two years would be two blocks, of which one may be seen without the other.
    """
    added, before, tries = 0, b"", 0
    bound = query("fill_posted_day").of_platform(
        partition=partition,
        last=public_id(partition, last),
        from_day=days[0],
        to_day=days[1],
        most=ADDED_AT_ONCE,
    )
    while payload := engine.query_bytes(
        bound.sql, bound.parameters, output="JSONCompactEachRow", settings=SCAN
    ):
        # Done again, it is the same sums under the same token; the number is for a token known in vain.
        tries = tries + 1 if payload == before else 0
        if tries == TRIES:
            raise EngineUnavailable(f"{POSTED_DAY} does not keep what it is given of partition {partition}")
        token = f"fill-{partition}-{days[0]}:{zlib.crc32(payload):08x}:{tries}"
        engine.insert(POSTED_DAY, COLUMNS, payload, token)
        added += payload.count(b"\n")
        before = payload
    return added
