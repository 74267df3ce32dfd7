-- name: range_usage_day
-- caller: pipeline/clickhouse/lost.py
-- scope: platform
-- parameters: low UInt64, high UInt64, partition UInt16
--
-- What usage_day lacks of the orgs and days of a range that is the newest of its partition: what the rows
-- come to beyond what the roll-up has, as rows of the roll-up.
WITH touched AS (
    SELECT DISTINCT org, day FROM events
    WHERE id BETWEEN {low:UInt64} AND {high:UInt64} AND id % 1024 = {partition:UInt16}
), rolled AS (
    SELECT org, day, model, key_id, provider, byok, tier,
           sum(requests) AS n, sum(errors) AS e, sum(prompt_tokens) AS p, sum(cached_tokens) AS c,
           sum(completion_tokens) AS o, sum(beside_tokens) AS b, sum(cost_nano) AS m
    FROM usage_day
    WHERE (org, day) IN (SELECT org, day FROM touched)
    GROUP BY org, day, model, key_id, provider, byok, tier
), counted AS (
    SELECT org, day, model, key_id, provider, byok, tier,
           count() AS n, countIf({{failed}}) AS e, sum(prompt_tokens) AS p, sum(cached_tokens) AS c,
           sum(completion_tokens) AS o, sum(beside_tokens) AS b, sum(cost_nano) AS m, max(id) AS last
    FROM events
    WHERE id <= {high:UInt64} AND (org, day) IN (SELECT org, day FROM touched)
    GROUP BY org, day, model, key_id, provider, byok, tier
)
SELECT org, toString(day), model, key_id, provider, byok, tier,
       counted.n - rolled.n, counted.e - rolled.e, counted.p - rolled.p, counted.c - rolled.c,
       counted.o - rolled.o, counted.b - rolled.b, counted.m - rolled.m, last
FROM counted LEFT JOIN rolled USING (org, day, model, key_id, provider, byok, tier)
WHERE counted.n > rolled.n
ORDER BY org, day, model, key_id, provider, byok, tier
