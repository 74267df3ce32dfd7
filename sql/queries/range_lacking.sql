-- name: range_lacking
-- caller: pipeline/clickhouse/lost.py
-- scope: platform
-- parameters: low UInt64, high UInt64, partition UInt16
--
-- How many groups of the roll-ups lack rows of a range that is the newest of its partition: those that do not know
-- the highest id that the range has for them.
WITH mine AS (
    SELECT org, day, model, key_id, provider, byok, tier, max(id) AS last FROM events
    WHERE id BETWEEN {low:UInt64} AND {high:UInt64} AND id % 1024 = {partition:UInt16}
    GROUP BY org, day, model, key_id, provider, byok, tier
), rolled AS (
    SELECT org, day, model, key_id, provider, byok, tier, max(last_id) AS known FROM usage_day
    WHERE (org, day) IN (SELECT org, day FROM mine)
    GROUP BY org, day, model, key_id, provider, byok, tier
), mine_of_models AS (
    SELECT day, model, max(last) AS last FROM mine GROUP BY day, model
), rolled_of_models AS (
    SELECT day, model, max(last_id) AS known FROM model_day
    WHERE partition = {partition:UInt16} AND (day, model) IN (SELECT day, model FROM mine)
    GROUP BY day, model
)
SELECT (SELECT count() FROM mine LEFT JOIN rolled USING (org, day, model, key_id, provider, byok, tier) WHERE known < last)
     + (SELECT count() FROM mine_of_models LEFT JOIN rolled_of_models USING (day, model) WHERE known < last)
