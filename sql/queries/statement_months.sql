-- name: statement_months
-- caller: pipeline/api/services/history.py
-- scope: org
-- parameters: below UInt64
--
-- What was credited in each IST month of posting; months without a money event are left out.
SELECT toYYYYMM(fromUnixTimestamp64Milli(posted_ms, 'Asia/Kolkata')) AS month, sum(toInt128(amount_nano))
FROM ledger
WHERE org = {org:String} AND id < {below:UInt64}
GROUP BY month
