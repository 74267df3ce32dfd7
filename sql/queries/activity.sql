-- name: activity
-- caller: pipeline/api/activity.py
-- scope: org
-- parameters: from_day Date, to_day Date, model String, key_id String
--
-- Everything `/me/activity` shows, from one pass over the roll-up, so that all its parts are of one
-- instant. An empty `model` or `key_id` filters nothing.
--
-- One text a row. First the sums by (model, provider), then by key, as JSON arrays; they hold what the
-- filters leave out too, with zeros, for the menus. Then the day x model series as the JSON objects of
-- the answer: there are thousands, and the engine writes them faster than anyone could read them.
SELECT if(
    is_day,
    concat(
        '{"day":"', toString(day),
        '","model":', toJSONString(toString(model)),
        ',"requests":', toString(shown_requests),
        ',"tokens":', toString(shown_tokens),
        ',"cost_inr":', toString(toDecimal128(shown_cost_nano, 0) * toDecimal128('0.000000001', 9)),
        ',"errors":', toString(shown_errors), '}'
    ),
    concat(
        '[', toString(is_key),
        ',', toJSONString(if(is_key, key_id, toString(model))),
        ',', toJSONString(toString(provider)),
        ',', toString(shown_requests),
        ',', toString(shown_tokens),
        ',', toString(shown_cost_nano),
        ',', toString(shown_errors),
        ',', toString(shown_byok_requests), ']'
    )
)
FROM (
    SELECT
        grouping(usage_day.day) = 0 AS is_day,
        grouping(usage_day.key_id) = 0 AS is_key,
        day,
        model,
        provider,
        key_id,
        sumIf(requests, matches) AS shown_requests,
        sumIf(prompt_tokens, matches) + sumIf(completion_tokens, matches) AS shown_tokens,
        sumIf(toInt128(cost_nano), matches) AS shown_cost_nano,
        sumIf(errors, matches) AS shown_errors,
        sumIf(requests, matches AND byok) AS shown_byok_requests
    FROM (
        SELECT
            *,
            (empty({model:String}) OR model = {model:String})
                AND (empty({key_id:String}) OR key_id = {key_id:String}) AS matches
        FROM usage_day
        WHERE org = {org:String} AND day BETWEEN {from_day:Date} AND {to_day:Date}
    ) AS usage_day
    GROUP BY GROUPING SETS ((day, model), (model, provider), (key_id))
    HAVING shown_requests > 0 OR NOT is_day
)
ORDER BY is_day, day, model
