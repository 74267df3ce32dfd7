-- name: range_ledger_ids
-- caller: pipeline/clickhouse/lost.py
-- scope: platform
-- parameters: low UInt64, high UInt64, partition UInt16
--
-- As range_ids, of a range of ledger entries.
SELECT DISTINCT id FROM ledger
WHERE id BETWEEN {low:UInt64} AND {high:UInt64} AND id % 1024 = {partition:UInt16}
