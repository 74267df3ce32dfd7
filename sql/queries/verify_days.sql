-- name: verify_days
-- caller: pipeline/operations/verify.py
-- scope: platform
-- parameters: below Array(UInt64), low UInt64, from_day Date
--
-- What the rows and the roll-ups come to on each IST day, by partition up to before the ids in `below`, of which
-- `low` is the lowest: sums that the journal has too. Of the rows requests and nano-rupees, of `usage_day` all sums but
-- tokens by class, of `model_day` requests and tokens, of `posted_day` requests and nano-rupees. A roll-up also holds what is newer, which is taken off by its rows.
SELECT 'events', toString(day), count(), 0, 0, sum(toInt128(cost_nano))
FROM events
WHERE id < {below:Array(UInt64)}[1 + id % 1024] AND day >= {from_day:Date}
GROUP BY day
UNION ALL
SELECT 'usage_day', toString(day), sum(n), sum(e), sum(t), sum(m)
FROM (
    SELECT day, toInt128(requests) AS n, toInt128(errors) AS e, toInt128({{tokens}}) AS t, toInt128(cost_nano) AS m
    FROM usage_day
    UNION ALL
    SELECT day, -1 AS n, -toInt128({{failed}}) AS e, -toInt128({{tokens}}) AS t, -toInt128(cost_nano) AS m
    FROM events
    WHERE id >= {low:UInt64} AND id >= {below:Array(UInt64)}[1 + id % 1024]
)
GROUP BY day
UNION ALL
SELECT 'model_day', toString(day), sum(n), 0, sum(t), 0
FROM (
    SELECT day, toInt128(requests) AS n, toInt128(tokens) AS t
    FROM model_day
    UNION ALL
    SELECT day, -1 AS n, -toInt128({{tokens}}) AS t
    FROM events
    WHERE id >= {low:UInt64} AND id >= {below:Array(UInt64)}[1 + id % 1024]
)
GROUP BY day
UNION ALL
SELECT 'posted_day', toString(day), sum(n), 0, 0, sum(m)
FROM (
    SELECT day, toInt128(requests) AS n, toInt128(cost_nano) AS m
    FROM posted_day
    UNION ALL
    SELECT day, -1 AS n, -toInt128(cost_nano) AS m
    FROM events
    WHERE id >= {low:UInt64} AND id >= {below:Array(UInt64)}[1 + id % 1024]
)
GROUP BY day
