-- name: verify_counts
-- caller: pipeline/operations/verify.py
-- scope: platform
-- parameters: partition UInt16, below UInt64
--
-- How many rows of one partition below an id are there: to wait until the sink has come that far.
SELECT (SELECT count() FROM events WHERE id % 1024 = {partition:UInt16} AND id < {below:UInt64}),
       (SELECT uniqExact(id) FROM events WHERE id % 1024 = {partition:UInt16} AND id < {below:UInt64}),
       (SELECT count() FROM ledger WHERE id % 1024 = {partition:UInt16} AND id < {below:UInt64}),
       (SELECT sum(toInt128(amount_nano)) FROM ledger WHERE id % 1024 = {partition:UInt16} AND id < {below:UInt64})
