-- name: verify_counts
-- caller: pipeline/operations/verify.py
-- scope: platform
-- parameters: partition UInt16, from_id UInt64, below UInt64, from_day Date
--
-- How many rows of one partition from one id up to before another are there: requests of `from_day` and later, as
-- earlier months may have been dropped, and all entries of the ledger.
SELECT requests, ids, entries, nano
FROM (
    SELECT count() AS requests, uniqExact(id) AS ids FROM events
    WHERE id >= {from_id:UInt64} AND id < {below:UInt64} AND id % 1024 = {partition:UInt16} AND day >= {from_day:Date}
) AS counted, (
    SELECT count() AS entries, sum(toInt128(amount_nano)) AS nano FROM ledger
    WHERE id >= {from_id:UInt64} AND id < {below:UInt64} AND id % 1024 = {partition:UInt16}
) AS listed
