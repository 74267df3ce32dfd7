-- name: statement_entries
-- caller: pipeline/api/services/history.py
-- scope: org
-- parameters: from_ms Int64, to_ms Int64, below UInt64
--
-- The money events posted between two instants, both included, oldest first.
SELECT id, org, posted_ms, kind, amount_nano, balance_after_nano, payment_id, order_id, promo_code, note
FROM ledger
WHERE org = {org:String} AND posted_ms BETWEEN {from_ms:Int64} AND {to_ms:Int64} AND id < {below:UInt64}
ORDER BY id
