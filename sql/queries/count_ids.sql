-- name: count_ids
-- caller: pipeline/clickhouse/lost.py
-- scope: platform
-- parameters: table Identifier, low UInt64, high UInt64, partition UInt16
--
-- How many rows of a recorded range are there: asked before a range that is too old for deduplication is sent
-- again, and after one was sent again to an engine that was started meanwhile.
SELECT count() FROM {table:Identifier} WHERE id BETWEEN {low:UInt64} AND {high:UInt64} AND id % 1024 = {partition:UInt16}
