-- name: events_csv
-- caller: pipeline/api/routes/csv_files.py
-- scope: org
-- parameters: from_rid UInt64, from_day Date, to_day Date, model String, key_id String, provider String, formula String, key_ids Array(String), key_names Array(String), rows UInt16
--
-- The lines of a file of requests, newest first, from an id counted down as in events_page. An empty `model`, `key_id` or
-- `provider` filters nothing. A text that `formula` matches gets an apostrophe before it, so that no spreadsheet
-- computes it; `key_names` have theirs already. The id comes last: texts may hold line feeds, so only the end of all is sure to be one.
SELECT
    concat(replaceOne(toString(fromUnixTimestamp64Milli(at_ms, 'Asia/Kolkata')), ' ', 'T'), '+05:30'),
    if(match(model, {formula:String}), concat('''', model), model),
    if(match(provider, {formula:String}), concat('''', provider), provider),
    status,
    latency_ms,
    {{tokens}},
    cost_nano * toDecimal128('0.000000001', 9),
    if(match(key_id, {formula:String}), concat('''', key_id), key_id),
    transform(key_id, {key_ids:Array(String)}, {key_names:Array(String)}, ''),
    id
FROM events
WHERE org = {org:String}
    AND rid >= {from_rid:UInt64}
    AND day BETWEEN {from_day:Date} AND {to_day:Date}
    AND {{filtered}}
ORDER BY org, rid
LIMIT {rows:UInt16}
