-- name: events_page
-- caller: pipeline/api/routes/events.py
-- scope: org
-- parameters: from_rid UInt64, to_rid UInt64, rows UInt16
--
-- The newest requests at or below an id, newest first: `rid` counts down from 2^53 - 1, so the page is a
-- forward read from `from_rid`. `to_rid` is how far back it looks: each part of the table that may hold one
-- of the rows costs a millisecond, whatever is read from it. A part's ids lie close together, but small orgs
-- share its granules, so the index on `id` tells what the sort order cannot.
SELECT id, at_ms, model, provider, status, latency_ms, {{tokens}}, cost_nano, key_id
FROM events
WHERE org = {org:String}
    AND rid BETWEEN {from_rid:UInt64} AND {to_rid:UInt64}
    AND id BETWEEN 9007199254740991 - {to_rid:UInt64} AND 9007199254740991 - {from_rid:UInt64}
ORDER BY org, rid
LIMIT {rows:UInt16}
