-- name: usage
-- caller: pipeline/api/routes/usage.py
-- scope: orgs
-- parameters: from_day Date, to_day Date
--
-- Requests and tokens of each key, on the last day of a range and over all of it.
SELECT
    org,
    key_id,
    sumIf(usage_day.requests, day = {to_day:Date}) AS today_requests,
    sumIf({{tokens}}, day = {to_day:Date}) AS today_tokens,
    sum(usage_day.requests) AS requests,
    sum({{tokens}}) AS tokens
FROM usage_day
WHERE org IN {orgs:Array(String)} AND day BETWEEN {from_day:Date} AND {to_day:Date}
GROUP BY org, key_id
