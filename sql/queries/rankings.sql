-- name: rankings
-- caller: pipeline/api/routes/rankings.py
-- scope: platform
-- parameters: from_day Date, recent_day Date, to_day Date
--
-- Requests and tokens of each model over the range, and over the part of it that starts at `recent_day`.
SELECT
    model,
    sumIf(requests, day >= {recent_day:Date}),
    sumIf(tokens, day >= {recent_day:Date}),
    sum(requests),
    sum(tokens)
FROM model_day
WHERE day BETWEEN {from_day:Date} AND {to_day:Date}
GROUP BY model
