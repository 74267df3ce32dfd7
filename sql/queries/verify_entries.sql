-- name: verify_entries
-- caller: pipeline/operations/signed_days.py
-- scope: platform
-- parameters: partition UInt16, low UInt64, high UInt64
--
-- The money events of one partition between two ids, both included.
SELECT id, org, posted_ms, kind, amount_nano, balance_after_nano, payment_id, order_id, promo_code, note
FROM ledger
WHERE id BETWEEN {low:UInt64} AND {high:UInt64} AND id % 1024 = {partition:UInt16}
ORDER BY id
