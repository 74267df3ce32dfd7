-- name: verify_months
-- caller: pipeline/operations/verify.py
-- scope: platform
-- parameters: since Array(UInt64), low UInt64, from_day Date
--
-- The months that hold rows at or above the ids in `since`, by partition, of which `low` is the lowest: the first and
-- the last day of each that has such rows.
SELECT toString(min(day)), toString(max(day))
FROM events
WHERE id >= {low:UInt64} AND id >= {since:Array(UInt64)}[1 + id % 1024] AND day >= {from_day:Date}
GROUP BY toYYYYMM(day)
ORDER BY min(day)
