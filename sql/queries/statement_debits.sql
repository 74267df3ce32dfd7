-- name: statement_debits
-- caller: pipeline/api/services/history.py
-- scope: org
-- parameters: from_ms Int64, to_ms Int64, below UInt64
--
-- What was charged between two instants, both included, by the requests' own IST day, model, key and provider. All months
-- are looked at, as in debits_up_to.
SELECT toString(day) AS of_day, model, key_id, provider,
       count() AS requests, sum({{tokens}}) AS counted, sum(toInt128(cost_nano)) AS cost_sum_nano
FROM events
WHERE org = {org:String} AND posted_ms BETWEEN {from_ms:Int64} AND {to_ms:Int64} AND id < {below:UInt64}
GROUP BY day, model, key_id, provider
ORDER BY day, model, key_id, provider
