-- name: usage_daily
-- caller: pipeline/api/usage.py
-- scope: org
-- parameters: from_day Date, to_day Date
--
-- The day x model series of the dashboard's chart; the columns are the fields of the answer.
SELECT
    day,
    toString(model) AS model,
    sum(usage_day.requests) AS requests,
    sum(prompt_tokens + completion_tokens) AS tokens
FROM usage_day
WHERE org = {org:String} AND day BETWEEN {from_day:Date} AND {to_day:Date}
GROUP BY day, model
ORDER BY day, model
