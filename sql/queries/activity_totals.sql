-- name: activity_totals
-- caller: pipeline/api/routes/totals.py
-- scope: orgs
-- parameters: from_day Date, first_day Date, to_day Date, model String, key_id String, provider String
--
-- Two periods in one pass: the days from `first_day` on, and those before it from `from_day` on. An empty `model`,
-- `key_id` or `provider` filters nothing.
SELECT
    org,
    day >= {first_day:Date} AS is_asked_for,
    sum(usage_day.requests) AS requests,
    sum({{tokens}}) AS tokens,
    sum(usage_day.errors) AS errors,
    sumIf(usage_day.requests, byok) AS byok_requests,
    sum(toInt128(cost_nano)) AS cost_sum_nano
FROM usage_day
WHERE org IN {orgs:Array(String)} AND day BETWEEN {from_day:Date} AND {to_day:Date}
    AND {{filtered}}
GROUP BY org, is_asked_for
