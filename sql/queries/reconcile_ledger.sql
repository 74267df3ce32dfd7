-- name: reconcile_ledger
-- caller: pipeline/payments/reconcile.py
-- scope: platform
-- parameters:
--
-- What the ledger holds for each payment: how often and how much was credited, and what went back.
SELECT payment_id, org,
       countIf(kind = 'topup') AS topups,
       sumIf(amount_nano, kind = 'topup') AS credited_nano,
       sumIf(amount_nano, kind IN ('refund', 'dispute')) AS returned_nano
FROM ledger
WHERE payment_id != ''
GROUP BY payment_id, org
