-- name: verify_rows
-- caller: pipeline/operations/verify.py
-- scope: platform
-- parameters: partition UInt16, from_id UInt64, below UInt64, from_day Date
--
-- The rows of one partition from one id up to before another, in the groups that its journal is folded into.
SELECT org, toString(day), model, key_id, provider, byok, tier,
       count(), countIf({{failed}}),
       sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(beside_tokens), sum(toInt128(cost_nano))
FROM events
WHERE id >= {from_id:UInt64} AND id < {below:UInt64} AND id % 1024 = {partition:UInt16} AND day >= {from_day:Date}
GROUP BY org, day, model, key_id, provider, byok, tier
