-- name: debits_up_to
-- caller: pipeline/api/services/history.py
-- scope: org
-- parameters: at_ms Int64, from_rid UInt64, to_rid UInt64
--
-- What requests cost that were posted up to an instant, between two ids counted down from 2^53 - 1, both included. All months
-- are looked at: a request that was redriven may be of any earlier day.
SELECT sum(toInt128(cost_nano))
FROM events
WHERE org = {org:String} AND rid BETWEEN {from_rid:UInt64} AND {to_rid:UInt64}
    AND posted_ms <= {at_ms:Int64}
