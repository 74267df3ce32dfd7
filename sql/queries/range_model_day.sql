-- name: range_model_day
-- caller: pipeline/clickhouse/lost.py
-- scope: platform
-- parameters: low UInt64, high UInt64, partition UInt16
--
-- As range_usage_day, for the roll-up that the rankings read.
WITH touched AS (
    SELECT DISTINCT day, model FROM events
    WHERE id BETWEEN {low:UInt64} AND {high:UInt64} AND id % 1024 = {partition:UInt16}
), rolled AS (
    SELECT day, model, sum(requests) AS n, sum(tokens) AS t
    FROM model_day
    WHERE partition = {partition:UInt16} AND (day, model) IN (SELECT day, model FROM touched)
    GROUP BY day, model
), counted AS (
    SELECT day, model, count() AS n, sum({{tokens}}) AS t, max(id) AS last
    FROM events
    WHERE id % 1024 = {partition:UInt16} AND id <= {high:UInt64} AND (day, model) IN (SELECT day, model FROM touched)
    GROUP BY day, model
)
SELECT toString(day), model, {partition:UInt16}, counted.n - rolled.n, counted.t - rolled.t, last
FROM counted LEFT JOIN rolled USING (day, model)
WHERE counted.n > rolled.n
ORDER BY day, model
