-- name: verify_posted_day
-- caller: pipeline/operations/verify.py
-- scope: platform
-- parameters: below Array(UInt64), since Array(UInt64), low UInt64, from_day Date, to_day Date
--
-- As verify_usage_day, for the roll-up by day of posting.
WITH touched AS (
    SELECT org, day FROM events
    WHERE day BETWEEN {from_day:Date} AND {to_day:Date}
        AND id >= {low:UInt64} AND id >= {since:Array(UInt64)}[1 + id % 1024]
    UNION DISTINCT
    SELECT org, day FROM posted_day
    WHERE day BETWEEN {from_day:Date} AND {to_day:Date} AND last_id >= {since:Array(UInt64)}[1 + last_id % 1024]
), rolled AS (
    SELECT org, posted_day, day,
           sum(requests) AS n, sum(toInt128(cost_nano)) AS m, max(last_id) AS last
    FROM posted_day
    WHERE day BETWEEN {from_day:Date} AND {to_day:Date} AND (org, day) IN (SELECT org, day FROM touched)
    GROUP BY org, posted_day, day
), due AS (
    SELECT org, posted_day, day, cost_nano
    FROM (
        SELECT *, day, {{posted_day}} AS posted_day FROM events
        WHERE day BETWEEN {from_day:Date} AND {to_day:Date} AND (org, day) IN (SELECT org, day FROM touched)
    ) AS every
    LEFT JOIN rolled USING (org, posted_day, day)
    WHERE id <= last OR id < {below:Array(UInt64)}[1 + id % 1024]
), counted AS (
    SELECT org, posted_day, day,
           count() AS n, sum(toInt128(cost_nano)) AS m
    FROM due
    GROUP BY org, posted_day, day
)
SELECT concat(org, ' posted ', toString(posted_day), ' of ', toString(day)),
       toString((counted.n, counted.m)) AS rows_say, toString((rolled.n, rolled.m)) AS roll_up_says
FROM counted FULL JOIN rolled USING (org, posted_day, day)
WHERE rows_say != roll_up_says
ORDER BY 1
LIMIT 100
