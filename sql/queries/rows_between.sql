-- name: rows_between
-- caller: pipeline/clickhouse/whose.py
-- scope: platform
-- parameters: low UInt64, high UInt64, partition UInt16
--
-- How many rows of a partition are between two ids, over both tables: positions rise by one over both together.
SELECT (SELECT count() FROM events WHERE id BETWEEN {low:UInt64} AND {high:UInt64} AND id % 1024 = {partition:UInt16})
     + (SELECT count() FROM ledger WHERE id BETWEEN {low:UInt64} AND {high:UInt64} AND id % 1024 = {partition:UInt16})
