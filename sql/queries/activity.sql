-- name: activity
-- caller: pipeline/api/routes/activity.py
-- scope: orgs
-- parameters: from_day Date, to_day Date, model String, key_id String, provider String
--
-- Everything `/me/activity` shows, from one pass over the roll-up, so that all its parts are of one
-- instant. An empty `model`, `key_id` or `provider` filters nothing. What the filters leave out is there with zeros, for
-- the menus.
--
-- `kind` is 1 for the day x model series, 2 for the sums by key, 3 for those by model and provider. The columns
-- from `day` on are the answer's for the series: there are thousands, and the engine writes them faster than
-- anyone could read them. One level and few functions, since planning is a large part of what it costs.
WITH {{filtered}} AS matches
SELECT
    org,
    grouping(usage_day.day, usage_day.key_id) AS kind,
    key_id,
    provider,
    sumIf(usage_day.requests, matches AND byok) AS byok_requests,
    sumIf(toInt128(cost_nano), matches) AS cost_sum_nano,
    day,
    model,
    sumIf(usage_day.requests, matches) AS requests,
    sumIf({{tokens}}, matches) AS tokens,
    cost_sum_nano * toDecimal128('0.000000001', 9) AS cost_inr,
    sumIf(usage_day.errors, matches) AS errors
FROM usage_day
WHERE org IN {orgs:Array(String)} AND day BETWEEN {from_day:Date} AND {to_day:Date}
GROUP BY GROUPING SETS ((org, day, model), (org, model, provider), (org, key_id))
ORDER BY org, kind, day, model
