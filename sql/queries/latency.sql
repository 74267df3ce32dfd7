-- name: latency
-- caller: pipeline/api/routes/latency.py
-- scope: org
-- parameters: from_day Date, to_day Date, model String, key_id String, provider String
--
-- The exact median and 95th percentile of what served requests took, by model, from the requests themselves: each is a
-- latency that a request had, of two in the middle the lower, and the smallest that more than 95 in 100 do not exceed.
-- No roll-up keeps these, see docs/performance.md. An empty `model`, `key_id` or `provider` filters nothing.
SELECT model, count(), arrayElement(quantilesExactLow(0.5, 0.95)(latency_ms) AS found, 1), arrayElement(found, 2)
FROM events
WHERE org = {org:String} AND day BETWEEN {from_day:Date} AND {to_day:Date} AND NOT {{failed}}
    AND {{filtered}}
GROUP BY model
ORDER BY model
