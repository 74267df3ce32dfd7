-- name: keys_last_used
-- caller: pipeline/api/routes/key_use.py
-- scope: org
-- parameters: from_day Date, to_day Date
--
-- The time of the request of each key that was charged last. The roll-up knows its id, so one row a key is read.
SELECT key_id, at_ms
FROM events
WHERE org = {org:String}
    AND rid IN (
        SELECT 9007199254740991 - max(last_id)
        FROM usage_day
        WHERE org = {org:String} AND day BETWEEN {from_day:Date} AND {to_day:Date}
        GROUP BY key_id
    )
ORDER BY key_id
