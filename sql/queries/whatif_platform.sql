-- name: whatif_platform
-- caller: pipeline/cli/whatif.py
-- scope: platform
-- parameters: one_org String, from_day Date, to_day Date, starts Array(Int64), bounds Array(UInt32)
--
-- As whatif_org, for the operator: of all orgs, or of one.
SELECT model, provider, irregular, min(at_ms), min(prompt_tokens), count(), sum(prompt_tokens), sum(cached_tokens),
       sum(completion_tokens), sum(reasoning_tokens), {{other_sums}}, sum(toInt128(cost_nano))
FROM events
WHERE (empty({one_org:String}) OR org = {one_org:String}) AND day BETWEEN {from_day:Date} AND {to_day:Date}
    AND NOT byok AND NOT {{failed}} AND tier != 'trial'
GROUP BY model, provider, irregular,
         arrayCount(start -> start <= at_ms, {starts:Array(Int64)}),
         arrayCount(bound -> prompt_tokens > bound, {bounds:Array(UInt32)})
