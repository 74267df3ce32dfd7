-- name: reconcile_ledger
-- caller: pipeline/payments/reconcile.py
-- scope: platform
-- parameters: since_ms Int64, ids Array(String)
--
-- What the ledger holds for each payment that had an entry since an instant, or is named: how often and how much was
-- credited, and what went back.
SELECT payment_id, org,
       countIf(kind = 'topup') AS topups,
       sumIf(amount_nano, kind = 'topup') AS credited_nano,
       sumIf(amount_nano, kind IN ('refund', 'dispute')) AS returned_nano
FROM ledger
WHERE payment_id != ''
GROUP BY payment_id, org
HAVING max(posted_ms) >= {since_ms:Int64} OR has({ids:Array(String)}, payment_id)
