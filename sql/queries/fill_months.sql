-- name: fill_months
-- caller: pipeline/clickhouse/fill.py
-- scope: platform
-- parameters: partition UInt16
--
-- The first and the last IST day of each month that has requests of a partition of the journal.
SELECT toString(min(day)), toString(max(day))
FROM events
WHERE id % 1024 = {partition:UInt16}
GROUP BY toYYYYMM(day)
ORDER BY min(day)
