-- name: range_ids
-- caller: pipeline/clickhouse/lost.py
-- scope: platform
-- parameters: low UInt64, high UInt64, partition UInt16, from_day Date, to_day Date
--
-- Which rows of a range of requests are there, once some of them are not.
SELECT DISTINCT id FROM events
WHERE id BETWEEN {low:UInt64} AND {high:UInt64} AND id % 1024 = {partition:UInt16}
    AND day BETWEEN {from_day:Date} AND {to_day:Date}
