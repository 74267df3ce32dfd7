-- name: debits_up_to
-- caller: pipeline/api/services/history.py
-- scope: org
-- parameters: at_ms Int64, from_rid UInt64, to_rid UInt64, also_from_rid UInt64, also_to_rid UInt64
--
-- What requests cost that were posted up to an instant, of those with ids in one of two ranges, counted down from 2^53 - 1 and
-- with both ends; a range that ends before it begins has none. All months are looked at: a request that was redriven may be
-- of any earlier day.
SELECT sum(toInt128(cost_nano))
FROM events
WHERE org = {org:String} AND posted_ms <= {at_ms:Int64}
    AND (
        rid BETWEEN {from_rid:UInt64} AND {to_rid:UInt64}
        OR rid BETWEEN {also_from_rid:UInt64} AND {also_to_rid:UInt64}
    )
