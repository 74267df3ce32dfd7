-- name: statement_debits
-- caller: pipeline/api/services/history.py
-- scope: org
-- parameters: from_day Date, to_day Date
--
-- What requests of the IST days between two, both included, cost, whenever they were posted, by day, model, key and provider,
-- and the highest id of each group.
SELECT toString(day) AS of_day, model, key_id, provider,
       sum(requests), sum({{tokens}}), sum(toInt128(cost_nano)), max(last_id)
FROM usage_day
WHERE org = {org:String} AND day BETWEEN {from_day:Date} AND {to_day:Date}
GROUP BY day, model, key_id, provider
