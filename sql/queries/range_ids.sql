-- name: range_ids
-- caller: pipeline/clickhouse/lost.py
-- scope: platform
-- parameters: table Identifier, low UInt64, high UInt64, partition UInt16
--
-- Which rows of a range are there, once some of them are not.
SELECT DISTINCT id FROM {table:Identifier} WHERE id BETWEEN {low:UInt64} AND {high:UInt64} AND id % 1024 = {partition:UInt16}
