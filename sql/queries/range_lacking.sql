-- name: range_lacking
-- caller: pipeline/clickhouse/lost.py
-- scope: platform
-- parameters: low UInt64, high UInt64, partition UInt16
--
-- How many groups of the roll-ups lack rows of a range that is the newest of its partition: those that do not know
-- the highest id that the range has for them.
WITH mine AS (
    SELECT org, {{posted_day}} AS posted_day, day, model, key_id, provider, byok, tier, max(id) AS last FROM events
    WHERE id BETWEEN {low:UInt64} AND {high:UInt64} AND id % 1024 = {partition:UInt16}
    GROUP BY org, posted_day, day, model, key_id, provider, byok, tier
), mine_of_days AS (
    SELECT org, day, model, key_id, provider, byok, tier, max(last) AS last FROM mine
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
), mine_as_posted AS (
    SELECT org, posted_day, day, max(last) AS last FROM mine
    GROUP BY org, posted_day, day
), rolled_as_posted AS (
    SELECT org, posted_day, day, max(last_id) AS known FROM posted_day
    WHERE (org, posted_day) IN (SELECT org, posted_day FROM mine)
    GROUP BY org, posted_day, day
)
SELECT (SELECT count() FROM mine_of_days LEFT JOIN rolled USING (org, day, model, key_id, provider, byok, tier) WHERE known < last)
     + (SELECT count() FROM mine_of_models LEFT JOIN rolled_of_models USING (day, model) WHERE known < last)
     + (SELECT count() FROM mine_as_posted LEFT JOIN rolled_as_posted USING (org, posted_day, day) WHERE known < last)
