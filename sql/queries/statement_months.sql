-- name: statement_months
-- caller: pipeline/api/services/history.py
-- scope: org
-- parameters: below UInt64
--
-- What was credited and what was charged in each IST month of posting, oldest first; months without either are left out.
SELECT month, sum(credited), sum(debited)
FROM (
    SELECT toYYYYMM(fromUnixTimestamp64Milli(posted_ms, 'Asia/Kolkata')) AS month,
           sum(toInt128(amount_nano)) AS credited, toInt128(0) AS debited
    FROM ledger
    WHERE org = {org:String} AND id < {below:UInt64}
    GROUP BY month
    UNION ALL
    SELECT toYYYYMM(fromUnixTimestamp64Milli(posted_ms, 'Asia/Kolkata')) AS month,
           toInt128(0) AS credited, sum(toInt128(cost_nano)) AS debited
    FROM events
    WHERE org = {org:String} AND id < {below:UInt64}
    GROUP BY month
)
GROUP BY month
ORDER BY month
