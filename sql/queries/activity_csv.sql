-- name: activity_csv
-- caller: pipeline/api/routes/csv_files.py
-- scope: org
-- parameters: from_day Date, to_day Date, model String, key_id String, provider String, formula String, key_ids Array(String), key_names Array(String)
--
-- The lines of a file of sums, oldest day first. Filters and texts as in events_csv.
SELECT
    day,
    if(match(usage_day.model, {formula:String}), concat('''', usage_day.model), usage_day.model),
    if(match(usage_day.key_id, {formula:String}), concat('''', usage_day.key_id), usage_day.key_id),
    transform(usage_day.key_id, {key_ids:Array(String)}, {key_names:Array(String)}, ''),
    if(match(usage_day.provider, {formula:String}), concat('''', usage_day.provider), usage_day.provider),
    sum(usage_day.requests),
    sum({{tokens}}),
    sum(toInt128(cost_nano)) * toDecimal128('0.000000001', 9),
    sum(usage_day.errors)
FROM usage_day
WHERE org = {org:String} AND day BETWEEN {from_day:Date} AND {to_day:Date}
    AND {{filtered}}
GROUP BY day, model, key_id, provider
ORDER BY day, model, key_id, provider
