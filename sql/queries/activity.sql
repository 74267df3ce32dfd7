-- name: activity
-- caller: pipeline/api/activity.py
-- scope: orgs
-- parameters: from_day Date, to_day Date, model String, key_id String
--
-- Everything `/me/activity` shows, from one pass over the roll-up, so that all its parts are of one
-- instant. An empty `model` or `key_id` filters nothing.
--
-- Each line is an org and a text in JSON. First the sums by (model, provider) and by key, as arrays; they
-- hold what the filters leave out too, with zeros, for the menus. Then the day x model series as the objects
-- of the answer: there are thousands, and the engine writes them faster than anyone could read them.
SELECT
    toJSONString(org),
    if(
        is_series,
        toJSONString(CAST(
            (day, model, requests_sum, tokens_sum, cost_sum_nano * toDecimal128('0.000000001', 9), errors_sum),
            'Tuple(day Date, model String, requests UInt64, tokens UInt64, cost_inr Decimal(38, 9), errors UInt64)'
        )),
        toJSONString((
            is_key, key_id, model, provider, requests_sum, tokens_sum, cost_sum_nano, errors_sum, byok_sum
        ))
    )
FROM (
    SELECT
        org,
        grouping(usage_day.day) = 0 AS is_series,
        grouping(usage_day.key_id) = 0 AS is_key,
        day,
        model,
        provider,
        key_id,
        sumIf(requests, matches) AS requests_sum,
        sumIf(prompt_tokens, matches) + sumIf(completion_tokens, matches) AS tokens_sum,
        sumIf(toInt128(cost_nano), matches) AS cost_sum_nano,
        sumIf(errors, matches) AS errors_sum,
        sumIf(requests, matches AND byok) AS byok_sum
    FROM (
        SELECT
            *,
            (empty({model:String}) OR model = {model:String})
                AND (empty({key_id:String}) OR key_id = {key_id:String}) AS matches
        FROM usage_day
        WHERE org IN {orgs:Array(String)} AND day BETWEEN {from_day:Date} AND {to_day:Date}
    ) AS usage_day
    GROUP BY GROUPING SETS ((org, day, model), (org, model, provider), (org, key_id))
    HAVING requests_sum > 0 OR NOT is_series
)
ORDER BY org, is_series, day, model
