-- name: statement_debits
-- caller: pipeline/api/services/history.py
-- scope: org
-- parameters: from_rid UInt64, to_rid UInt64
--
-- What was charged with ids between two, both included and counted down from 2^53 - 1, by the requests' own IST day, model,
-- key and provider. All months are looked at, as in debits_up_to.
SELECT toString(day) AS of_day, model, key_id, provider,
       count() AS requests, sum({{tokens}}) AS counted, sum(toInt128(cost_nano)) AS cost_sum_nano
FROM events
WHERE org = {org:String} AND rid BETWEEN {from_rid:UInt64} AND {to_rid:UInt64}
GROUP BY day, model, key_id, provider
ORDER BY day, model, key_id, provider
