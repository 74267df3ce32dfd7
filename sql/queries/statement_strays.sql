-- name: statement_strays
-- caller: pipeline/api/services/history.py
-- scope: org
-- parameters: from_day Date, to_day Date, from_rid UInt64, to_rid UInt64, later_from_rid UInt64, later_to_rid UInt64
--
-- By what the debits of a time of posting differ from those of the same days of requests: of requests of other days that were
-- posted then, which have ids between two, what they cost; of requests of these days that were posted later, with ids between
-- two others, less than nothing. Ids are counted down from 2^53 - 1, and both ends included. Few rows are: of a month those of the
-- days are left out by their partition, and of what was posted later only these are in it.
SELECT toString(day) AS of_day, model, key_id, provider,
       sum(n) AS requests, sum(n * toInt64(t)) AS counted, sum(n * cost) AS cost_sum_nano
FROM (
    SELECT day, model, key_id, provider, toInt64(1) AS n, {{tokens}} AS t, toInt128(cost_nano) AS cost
    FROM events
    WHERE org = {org:String} AND (day < {from_day:Date} OR day > {to_day:Date})
        AND rid BETWEEN {from_rid:UInt64} AND {to_rid:UInt64}
    UNION ALL
    SELECT day, model, key_id, provider, toInt64(-1) AS n, {{tokens}} AS t, toInt128(cost_nano) AS cost
    FROM events
    WHERE org = {org:String} AND day BETWEEN {from_day:Date} AND {to_day:Date}
        AND rid BETWEEN {later_from_rid:UInt64} AND {later_to_rid:UInt64}
)
GROUP BY day, model, key_id, provider
