-- name: verify_model_day
-- caller: pipeline/operations/verify.py
-- scope: platform
-- parameters: below Array(UInt64)
--
-- As verify_usage_day, for the roll-up that the rankings read.
WITH rolled AS (
    SELECT day, model, partition, sum(requests) AS n, sum(tokens) AS t, max(last_id) AS last
    FROM model_day
    GROUP BY day, model, partition
), due AS (
    SELECT day, model, partition, {{tokens}} AS tokens
    FROM (SELECT *, day, beside_tokens, toUInt16(id % 1024) AS partition FROM events) AS every
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
LIMIT 100
