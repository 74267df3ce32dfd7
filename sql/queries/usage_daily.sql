-- name: usage_daily
-- caller: pipeline/api/routes/usage.py
-- scope: orgs
-- parameters: from_day Date, to_day Date
--
-- The day x model series of the dashboard's chart. The columns but `org` are the answer's.
SELECT org, day, model, sum(usage_day.requests) AS requests, sum({{tokens}}) AS tokens
FROM usage_day
WHERE org IN {orgs:Array(String)} AND day BETWEEN {from_day:Date} AND {to_day:Date}
GROUP BY org, day, model
ORDER BY org, day, model
