-- name: deployments
-- caller: pipeline/clickhouse/whose.py
-- scope: platform
-- parameters:
--
-- Whose database this is: one row, or none before the first sink; more where two deployments have begun to use it.
SELECT name, id, max(epoch) FROM deployment GROUP BY name, id
