-- name: verify_usage_day
-- caller: pipeline/operations/verify.py
-- scope: platform
-- parameters: below Array(UInt64), since Array(UInt64), low UInt64, from_day Date, to_day Date
--
-- Each group of the roll-up beside the rows up to the group's own last id, so that the two can be compared
-- while more arrive; rows below their partition's id in `below` have to be in the roll-up already. Only
-- groups that differ come back: which, what the rows say, what the roll-up says.
--
-- Only orgs and days are looked at that have rows at or above their partition's id in `since`, of which `low` is the
-- lowest, in the rows or in the roll-up: of all others the two were compared before.
WITH touched AS (
    SELECT org, day FROM events
    WHERE day BETWEEN {from_day:Date} AND {to_day:Date}
        AND id >= {low:UInt64} AND id >= {since:Array(UInt64)}[1 + id % 1024]
    UNION DISTINCT
    SELECT org, day FROM usage_day
    WHERE day BETWEEN {from_day:Date} AND {to_day:Date} AND last_id >= {since:Array(UInt64)}[1 + last_id % 1024]
), rolled AS (
    SELECT org, day, model, key_id, provider, byok, tier,
           sum(requests) AS n, sum(errors) AS e, sum(prompt_tokens) AS p, sum(cached_tokens) AS c,
           sum(completion_tokens) AS o, sum(beside_tokens) AS b, sum(toInt128(cost_nano)) AS m, max(last_id) AS last
    FROM usage_day
    WHERE day BETWEEN {from_day:Date} AND {to_day:Date} AND (org, day) IN (SELECT org, day FROM touched)
    GROUP BY org, day, model, key_id, provider, byok, tier
), due AS (
    SELECT org, day, model, key_id, provider, byok, tier,
           status, prompt_tokens, cached_tokens, completion_tokens, beside_tokens, cost_nano
    FROM (
        SELECT *, day, beside_tokens FROM events
        WHERE day BETWEEN {from_day:Date} AND {to_day:Date} AND (org, day) IN (SELECT org, day FROM touched)
    ) AS every
    LEFT JOIN rolled USING (org, day, model, key_id, provider, byok, tier)
    WHERE id <= last OR id < {below:Array(UInt64)}[1 + id % 1024]
), counted AS (
    SELECT org, day, model, key_id, provider, byok, tier,
           count() AS n, countIf({{failed}}) AS e, sum(prompt_tokens) AS p, sum(cached_tokens) AS c,
           sum(completion_tokens) AS o, sum(beside_tokens) AS b, sum(toInt128(cost_nano)) AS m
    FROM due
    GROUP BY org, day, model, key_id, provider, byok, tier
)
SELECT concat(org, ' ', toString(day), ' ', model, ' ', key_id, ' ', provider, ' ', toString(byok), ' ', tier),
       toString((counted.n, counted.e, counted.p, counted.c, counted.o, counted.b, counted.m)) AS rows_say,
       toString((rolled.n, rolled.e, rolled.p, rolled.c, rolled.o, rolled.b, rolled.m)) AS roll_up_says
FROM counted FULL JOIN rolled USING (org, day, model, key_id, provider, byok, tier)
WHERE rows_say != roll_up_says
ORDER BY 1
LIMIT 100
