-- name: range_posted_day
-- caller: pipeline/clickhouse/lost.py
-- scope: platform
-- parameters: low UInt64, high UInt64, partition UInt16
--
-- As range_usage_day, for the roll-up by day of posting.
WITH touched AS (
    SELECT DISTINCT org, {{posted_day}} AS posted_day FROM events
    WHERE id BETWEEN {low:UInt64} AND {high:UInt64} AND id % 1024 = {partition:UInt16}
), rolled AS (
    SELECT org, posted_day, day, sum(requests) AS n, sum(cost_nano) AS m
    FROM posted_day
    WHERE (org, posted_day) IN (SELECT org, posted_day FROM touched)
    GROUP BY org, posted_day, day
), counted AS (
    SELECT org, {{posted_day}} AS posted_day, day,
           count() AS n, sum(cost_nano) AS m, max(id) AS last
    FROM events
    WHERE id <= {high:UInt64} AND (org, {{posted_day}}) IN (SELECT org, posted_day FROM touched)
    GROUP BY org, posted_day, day
)
SELECT org, toString(posted_day), toString(day), counted.n - rolled.n, counted.m - rolled.m, last
FROM counted LEFT JOIN rolled USING (org, posted_day, day)
WHERE counted.n > rolled.n
ORDER BY org, posted_day, day
