"""A year of believable requests in the real tables, made by the engine itself.

Owns: what the orgs look like, and how their rows come into the tables.
Called by: `bench/answers.py`, `bench/pages.py`.

One org of 5,000 has a tenth of all requests and the full breadth: 10 models, 5 keys, 3 providers. The others
have 1 to 10 models, 1 to 5 keys and 1 to 3 providers, and sizes that fall off: the second largest has a
hundredth, the smallest a hundred-thousandth. Rows come in the order of their ids and times, through the
schema's own views.
"""

from __future__ import annotations

import time
from datetime import date, timedelta

from msgspec import structs

from pipeline import ist
from pipeline.clickhouse.client import Engine
from pipeline.journal import REQUEST_COLUMNS, REQUESTS, RequestRow, encode_rows

ORGS, LARGE_ORG = 5_000, "org_0"
LAST_DAY = date(2026, 6, 30)
FIRST_DAY = LAST_DAY - timedelta(days=365)
ID_STEP = 1024
YEAR_MS = 366 * 86_400_000
MODELS = 40
ROWS_AN_INSERT = 1_000_000
NEWER_ROWS_DRAWN = 50_000
_SCAN = {"max_execution_time": 600}

_ROWS = """
WITH
    cityHash64(number) AS dice,
    if(number % 10 < {tenths}, 0, 1 + toUInt32({orgs} * pow((dice % 1000000) / 1000000, 2))) AS org_number,
    cityHash64(org_number) AS shape,
    if(org_number = 0, 10, 1 + shape % 10) AS models,
    if(org_number = 0, 5, 1 + intDiv(shape, 16) % 5) AS keys,
    if(org_number = 0, 3, 1 + intDiv(shape, 256) % 3) AS providers,
    (shape + intDiv(dice, 1000000) % models) % {models_all} AS model_number
SELECT
    (number + 1) * 1024 + {partition} AS id,
    concat('org_', toString(org_number)) AS org,
    {first_ms} + toInt64(number * {step_ms}) AS at_ms,
    at_ms + 40 AS posted_ms,
    'gateway/bench' AS source,
    toString(number) AS event_id,
    concat(org, '_key_', toString(intDiv(dice, 100000000) % keys)) AS key_id,
    'standard' AS tier,
    false AS byok,
    concat('model-', toString(model_number)) AS model,
    concat('provider-', toString((model_number + intDiv(dice, 1000000000) % providers) % 12)) AS provider,
    if(intDiv(dice, 10000000000) % 50 = 0, 500, 200) AS status,
    if(status = 500, 'upstream_error', '') AS error_code,
    toUInt32(300 + intDiv(dice, 100000000000) % 4000) AS latency_ms,
    toUInt32(100 + intDiv(dice, 10000) % 300) AS ttft_ms,
    true AS stream,
    toUInt32(200 + intDiv(dice, 1000000000000) % 1800) AS prompt_tokens,
    toUInt32(50) AS cached_tokens,
    toUInt32(20 + intDiv(dice, 10000000000000) % 700) AS completion_tokens,
    0 AS reasoning_tokens,
    toInt64(prompt_tokens * 12500 + completion_tokens * 50000) AS cost_nano,
    1 AS rate_from_ms,
    0 AS cache_write_tokens,
    0 AS audio_input_tokens,
    0 AS audio_output_tokens,
    0 AS irregular
FROM numbers({start}, {count})
"""


def fill(
    engine: Engine, events: int, first_day: date = FIRST_DAY, tenths: int = 1, partition: int = 0
) -> float:
    """Insert the requests that are missing of `events`, spread over the 366 IST days from `first_day`.

    So many tenths of them are the large org's; their ids are of one partition of the journal. Return the seconds it took. What is there has to come from an earlier fill of as many events.
    """
    first_ms = ist.day_start_ms(ist.day_of_date(first_day))
    began, there = time.perf_counter(), last_number(engine)
    for start in range(there, events, ROWS_AN_INSERT):
        rows = _rows_sql(
            start, min(ROWS_AN_INSERT, events - start), YEAR_MS / events, first_ms, tenths, partition
        )
        engine.command(f"INSERT INTO events ({', '.join(REQUEST_COLUMNS)}) {rows}")
    if there < events:
        _merge_finished(engine)
    return time.perf_counter() - began if there < events else 0.0


def _merge_finished(engine: Engine) -> None:
    """Merge all partitions but the newest, as the engine would by itself some hours later."""
    found = engine.query(
        "SELECT table, arraySort(groupUniqArray(partition)) FROM system.parts"
        " WHERE active AND database = currentDatabase() AND table IN ('events', 'usage_day', 'posted_day') GROUP BY table",
        row=tuple[str, list[str]],
    )
    for table, partitions in found:
        for partition in partitions[:-1]:
            engine.command(f"OPTIMIZE TABLE {table} PARTITION {partition} FINAL")


def last_number(engine: Engine) -> int:
    """Return how many requests there are: their ids are their numbers times ID_STEP."""
    return engine.query("SELECT max(id) FROM events", row=tuple[int], settings=_SCAN)[0][0] // ID_STEP


class NewerRows:
    """More requests, all of the last instant of the year, as the journal has them.

    They are drawn once and numbered anew, since making them is not what is measured.
    """

    def __init__(self, engine: Engine, number: int) -> None:
        """Draw requests, the first of which will be number `number`."""
        columns = ", ".join(REQUEST_COLUMNS)
        rows = _rows_sql(number, NEWER_ROWS_DRAWN, 0, newest_ms())
        self._drawn = engine.query(f"SELECT {columns} FROM ({rows})", row=RequestRow)
        self.number = number

    def take(self, count: int) -> bytes:
        """Return the journal's bytes of `count` more requests."""
        numbers = range(self.number, self.number + count)
        self.number += count
        rows = [
            structs.replace(self._drawn[number % NEWER_ROWS_DRAWN], id=(number + 1) * ID_STEP)
            for number in numbers
        ]
        return b"".join(record.value for record in encode_rows(REQUESTS, rows))


def newest_ms() -> int:
    """Return the last instant of the year."""
    return ist.day_start_ms(ist.day_of_date(FIRST_DAY)) + YEAR_MS - 1


def roll_up_rows(engine: Engine) -> str:
    """Return how many rows and parts each table has, in words."""
    found = engine.query(
        "SELECT table, sum(rows), count() FROM system.parts WHERE active AND database = currentDatabase()"
        " GROUP BY table ORDER BY table",
        row=tuple[str, int, int],
    )
    return "; ".join(f"{table}: {rows:,} rows in {parts} parts" for table, rows, parts in found) + "."


def _rows_sql(
    start: int, count: int, step_ms: float, first_ms: int, tenths: int = 1, partition: int = 0
) -> str:
    """Return the SELECT of `count` requests from number `start`; number n is of `first_ms` + n * `step_ms`."""
    return _ROWS.format(
        orgs=ORGS - 2,
        models_all=MODELS,
        first_ms=first_ms,
        step_ms=step_ms,
        start=start,
        count=count,
        tenths=tenths,
        partition=partition,
    )
