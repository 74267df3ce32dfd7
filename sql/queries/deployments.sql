-- name: deployments
-- caller: pipeline/clickhouse/whose.py
-- scope: platform
-- parameters:
--
-- Whose database this is, and which shard of how many: one row, or none before the first sink; more where two deployments
-- have begun to use it, or one with two numbers of shards.
SELECT name, id, max(epoch), shard, shards FROM deployment GROUP BY name, id, shard, shards
