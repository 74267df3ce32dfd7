-- name: rows_around
-- caller: pipeline/clickhouse/whose.py
-- scope: platform
-- parameters: before UInt64, last UInt64, partition UInt16
--
-- Whether a partition's rows end where its sink says: how many rows have the id before the sink's range, and the highest
-- id after it, 0 where none is.
SELECT (SELECT count() FROM events WHERE id = {before:UInt64}) + (SELECT count() FROM ledger WHERE id = {before:UInt64}),
       greatest((SELECT max(id) FROM events WHERE id > {last:UInt64} AND id % 1024 = {partition:UInt16}),
                (SELECT max(id) FROM ledger WHERE id > {last:UInt64} AND id % 1024 = {partition:UInt16}))
