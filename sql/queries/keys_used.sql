-- name: keys_used
-- caller: pipeline/api/routes/csv_files.py
-- scope: org
-- parameters: from_day Date, to_day Date
--
-- The keys that made requests on some days.
SELECT DISTINCT key_id
FROM usage_day
WHERE org = {org:String} AND day BETWEEN {from_day:Date} AND {to_day:Date}
