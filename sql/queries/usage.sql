-- name: usage
-- caller: pipeline/api/usage.py
-- scope: orgs
-- parameters: from_day Date, to_day Date
--
-- Requests and tokens of each key, on the last day of a range and over all of it. Each line is an org and
-- an array in JSON.
SELECT
    toJSONString(org),
    toJSONString((
        key_id,
        sumIf(requests, day = {to_day:Date}),
        sumIf(prompt_tokens + completion_tokens, day = {to_day:Date}),
        sum(requests),
        sum(prompt_tokens + completion_tokens)
    ))
FROM usage_day
WHERE org IN {orgs:Array(String)} AND day BETWEEN {from_day:Date} AND {to_day:Date}
GROUP BY org, key_id
