-- name: posted_days
-- caller: pipeline/api/services/posted_days.py
-- scope: org
-- parameters: to_day Date
--
-- What requests cost that were posted on each IST day up to one, and the highest of their ids, oldest first.
SELECT toString(posted_day), sum(toInt128(cost_nano)), max(last_id)
FROM posted_day
WHERE org = {org:String} AND posted_day <= {to_day:Date}
GROUP BY posted_day
ORDER BY posted_day
