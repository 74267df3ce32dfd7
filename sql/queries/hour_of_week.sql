-- name: hour_of_week
-- caller: pipeline/telling/unusual_hours.py
-- scope: org
-- parameters: from_day Date, to_day Date, from_ms Int64, until_ms Int64, week_ms Int64, hour_ms Int64
--
-- What the same hour of the week cost, by key and model: of the last week of the range, and of those before it together.
SELECT
    key_id,
    model,
    sumIf(toInt128(cost_nano), at_ms >= {until_ms:Int64} - {hour_ms:Int64}),
    sumIf(toInt128(cost_nano), at_ms < {until_ms:Int64} - {hour_ms:Int64})
FROM events
WHERE org = {org:String}
  AND day BETWEEN {from_day:Date} AND {to_day:Date}
  AND at_ms >= {from_ms:Int64}
  AND at_ms < {until_ms:Int64}
  AND (at_ms - {from_ms:Int64}) % {week_ms:Int64} < {hour_ms:Int64}
GROUP BY key_id, model
