-- name: usage_daily
-- caller: pipeline/api/usage.py
-- scope: orgs
-- parameters: from_day Date, to_day Date
--
-- The day x model series of the dashboard's chart. Each line is an org and an object of the answer.
SELECT
    toJSONString(org),
    toJSONString(CAST(
        (day, model, sum(usage_day.requests), sum(prompt_tokens + completion_tokens)),
        'Tuple(day Date, model String, requests UInt64, tokens UInt64)'
    ))
FROM usage_day
WHERE org IN {orgs:Array(String)} AND day BETWEEN {from_day:Date} AND {to_day:Date}
GROUP BY org, day, model
ORDER BY org, day, model
