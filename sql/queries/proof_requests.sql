-- name: proof_requests
-- caller: pipeline/api/services/proving.py
-- scope: org
-- parameters: from_ms Int64, to_ms Int64, from_rid UInt64, to_rid UInt64, rows UInt16
--
-- The next whole rows of requests posted between two instants, both included, oldest first, between two ids counted down
-- from 2^53 - 1. All months are looked at, as in debits_up_to.
SELECT {{request_columns}}
FROM events
WHERE org = {org:String} AND rid BETWEEN {from_rid:UInt64} AND {to_rid:UInt64}
    AND posted_ms BETWEEN {from_ms:Int64} AND {to_ms:Int64}
ORDER BY org DESC, rid DESC
LIMIT {rows:UInt16}
