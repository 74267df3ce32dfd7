-- name: count_ids
-- caller: pipeline/clickhouse/lost.py
-- scope: platform
-- parameters: low UInt64, high UInt64, partition UInt16, from_day Date, to_day Date
--
-- How many rows of a recorded range of requests are there: asked before a range that is too old for deduplication is
-- sent again, and after one was sent again to an engine that was started meanwhile. Months without days of the range are
-- not opened.
SELECT count() FROM events
WHERE id BETWEEN {low:UInt64} AND {high:UInt64} AND id % 1024 = {partition:UInt16}
    AND day BETWEEN {from_day:Date} AND {to_day:Date}
