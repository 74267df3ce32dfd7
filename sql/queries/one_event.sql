-- name: one_event
-- caller: pipeline/api/routes/one_event.py
-- scope: org
-- parameters: rid UInt64
--
-- One request of an org, with all that its cost depends on, by its id counted down from 2^53 - 1.
SELECT {{request_columns}}
FROM events
WHERE org = {org:String}
    AND rid = {rid:UInt64}
    AND id = 9007199254740991 - {rid:UInt64}
LIMIT 1
