-- name: ledger_before
-- caller: pipeline/api/services/history.py
-- scope: org
-- parameters: at_ms Int64, below UInt64
--
-- The newest money event up to an instant: id, time of posting and the balance after it, zeros where there is none.
SELECT max(id), max(posted_ms), argMax(balance_after_nano, id)
FROM ledger
WHERE org = {org:String} AND id < {below:UInt64} AND posted_ms <= {at_ms:Int64}
