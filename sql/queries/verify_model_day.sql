-- name: verify_model_day
-- caller: pipeline/operations/verify.py
-- scope: platform
-- parameters: below Array(UInt64), since Array(UInt64), low UInt64, from_day Date, to_day Date
--
-- As verify_usage_day, for the roll-up that the rankings read, by day, model and partition.
WITH touched AS (
    SELECT day, model, toUInt16(id % 1024) AS partition FROM events
    WHERE day BETWEEN {from_day:Date} AND {to_day:Date}
        AND id >= {low:UInt64} AND id >= {since:Array(UInt64)}[1 + id % 1024]
    UNION DISTINCT
    SELECT day, model, partition FROM model_day
    WHERE day BETWEEN {from_day:Date} AND {to_day:Date} AND last_id >= {since:Array(UInt64)}[1 + last_id % 1024]
), rolled AS (
    SELECT day, model, partition, sum(requests) AS n, sum(tokens) AS t, max(last_id) AS last
    FROM model_day
    WHERE day BETWEEN {from_day:Date} AND {to_day:Date}
        AND (day, model, partition) IN (SELECT day, model, partition FROM touched)
    GROUP BY day, model, partition
), due AS (
    SELECT day, model, partition, {{tokens}} AS tokens
    FROM (
        SELECT *, day, beside_tokens, toUInt16(id % 1024) AS partition FROM events
        WHERE day BETWEEN {from_day:Date} AND {to_day:Date}
            AND (day, model, partition) IN (SELECT day, model, partition FROM touched)
    ) AS every
    LEFT JOIN rolled USING (day, model, partition)
    WHERE id <= last OR id < {below:Array(UInt64)}[1 + partition]
), counted AS (
    SELECT day, model, partition, count() AS n, sum(tokens) AS t
    FROM due
    GROUP BY day, model, partition
)
SELECT concat(toString(day), ' ', model, ' ', toString(partition)),
       toString((counted.n, counted.t)) AS rows_say, toString((rolled.n, rolled.t)) AS roll_up_says
FROM counted FULL JOIN rolled USING (day, model, partition)
WHERE rows_say != roll_up_says
ORDER BY 1
LIMIT 100
