-- name: spend_days
-- caller: pipeline/api/routes/forecast.py
-- scope: orgs
-- parameters: from_day Date, to_day Date
--
-- What was debited on each day for each key.
SELECT org, day, key_id, sum(toInt128(cost_nano)) AS cost_sum_nano
FROM usage_day
WHERE org IN {orgs:Array(String)} AND day BETWEEN {from_day:Date} AND {to_day:Date}
GROUP BY org, day, key_id
