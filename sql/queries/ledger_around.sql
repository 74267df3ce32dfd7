-- name: ledger_around
-- caller: pipeline/api/services/history.py
-- scope: org
-- parameters: at_ms Int64, below UInt64
--
-- The newest money event up to an instant: id, time of posting and the balance after it, zeros where there is none. Then the
-- id of the first one after the instant, 0 where there is none.
SELECT maxIf(id, posted_ms <= {at_ms:Int64}),
       maxIf(posted_ms, posted_ms <= {at_ms:Int64}),
       argMaxIf(balance_after_nano, id, posted_ms <= {at_ms:Int64}),
       minIf(id, posted_ms > {at_ms:Int64})
FROM ledger
WHERE org = {org:String} AND id < {below:UInt64}
