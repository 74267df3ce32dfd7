-- name: events_by_event_id
-- caller: pipeline/api/routes/search.py
-- scope: org
-- parameters: event_id String, rows UInt16
--
-- An org's requests whose event has an id, newest first: one, unless several sources gave the same id. No index has
-- these ids, so it reads them all, newest first, and no other column of a row that is not found.
SELECT id, at_ms, model, provider, status, latency_ms, {{tokens}}, cost_nano, key_id
FROM events
PREWHERE event_id = {event_id:String}
WHERE org = {org:String}
ORDER BY org, rid
LIMIT {rows:UInt16}
