-- name: hour_spenders
-- caller: pipeline/telling/unusual_hours.py
-- scope: platform
-- parameters: from_ms Int64, until_ms Int64, day Date, at_least_nano Int64
--
-- The orgs whose requests of an hour, which lies on one IST day, cost so much or more.
SELECT org
FROM events
WHERE day = {day:Date} AND at_ms >= {from_ms:Int64} AND at_ms < {until_ms:Int64}
GROUP BY org
HAVING sum(toInt128(cost_nano)) >= {at_least_nano:Int64}
ORDER BY org
