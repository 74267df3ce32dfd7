-- name: posted_days
-- caller: pipeline/api/services/posted_days.py
-- scope: org
-- parameters: to_ms Int64, to_rid UInt64
--
-- What requests cost that were posted on each IST day up to an instant, and the lowest and the highest of their ids, oldest first:
-- of those with ids from one on, counted down from 2^53 - 1. All months are looked at, as in debits_up_to.
SELECT toString(toDate(fromUnixTimestamp64Milli(posted_ms, 'Asia/Kolkata'))) AS posted_day,
       sum(toInt128(cost_nano)), min(id), max(id)
FROM events
WHERE org = {org:String} AND rid <= {to_rid:UInt64} AND posted_ms <= {to_ms:Int64}
GROUP BY posted_day
ORDER BY posted_day
