-- name: whatif_org
-- caller: pipeline/api/routes/whatif.py
-- scope: org
-- parameters: from_day Date, to_day Date, starts Array(Int64), bounds Array(UInt32)
--
-- The charged requests of some days, added up where all rates that are looked at price them alike: `starts` are the instants
-- and `bounds` the numbers of prompt tokens at which prices change. Free requests stay free and are left out.
SELECT model, provider, irregular, min(at_ms), min(prompt_tokens), count(), sum(prompt_tokens), sum(cached_tokens),
       sum(completion_tokens), sum(reasoning_tokens), {{other_sums}}, sum(toInt128(cost_nano))
FROM events
WHERE org = {org:String} AND day BETWEEN {from_day:Date} AND {to_day:Date}
    AND NOT byok AND NOT {{failed}} AND tier != 'trial'
GROUP BY model, provider, irregular,
         arrayCount(start -> start <= at_ms, {starts:Array(Int64)}),
         arrayCount(bound -> prompt_tokens > bound, {bounds:Array(UInt32)})
