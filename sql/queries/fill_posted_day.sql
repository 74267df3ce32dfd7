-- name: fill_posted_day
-- caller: pipeline/clickhouse/fill.py
-- scope: platform
-- parameters: partition UInt16, last UInt64, from_day Date, to_day Date, most UInt64
--
-- What the roll-up by day of posting lacks of the requests that a partition of the journal has up to an id and of some days of
-- one month, as rows of the roll-up, so many at most.
SELECT org, toString(posted_day), toString(day), toUInt64(sum(n)), toInt64(sum(m)), max(last)
FROM (
    SELECT org, {{posted_day}} AS posted_day, day, toInt128(1) AS n, toInt128(cost_nano) AS m, id AS last
    FROM events
    WHERE day BETWEEN {from_day:Date} AND {to_day:Date} AND id <= {last:UInt64} AND id % 1024 = {partition:UInt16}
    UNION ALL
    SELECT org, posted_day, day, -toInt128(requests) AS n, -toInt128(cost_nano) AS m, last_id AS last
    FROM posted_day
    WHERE day BETWEEN {from_day:Date} AND {to_day:Date} AND last_id % 1024 = {partition:UInt16}
)
GROUP BY org, posted_day, day
HAVING sum(n) > 0
ORDER BY org, posted_day, day
LIMIT {most:UInt64}
