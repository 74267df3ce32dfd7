-- name: events_page_filtered
-- caller: pipeline/api/routes/events.py
-- scope: org
-- parameters: from_rid UInt64, to_rid UInt64, from_day Date, to_day Date, model String, key_id String, provider String, rows UInt16
--
-- As events_page, of some days, of one model, key or provider. An empty `model`, `key_id` or `provider` filters nothing.
-- It is a query of its own, since each condition costs the page that has no filters its planning.
SELECT id, at_ms, model, provider, status, latency_ms, {{tokens}}, cost_nano, key_id
FROM events
WHERE org = {org:String}
    AND rid BETWEEN {from_rid:UInt64} AND {to_rid:UInt64}
    AND id BETWEEN 9007199254740991 - {to_rid:UInt64} AND 9007199254740991 - {from_rid:UInt64}
    AND day BETWEEN {from_day:Date} AND {to_day:Date}
    AND {{filtered}}
ORDER BY org, rid
LIMIT {rows:UInt16}
