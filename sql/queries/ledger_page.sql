-- name: ledger_page
-- caller: pipeline/api/routes/billing.py
-- scope: org
-- parameters: from_rid UInt64, rows UInt16
--
-- The newest money events at or below an id, newest first; `rid` as in events_page.
SELECT id, org, posted_ms, kind, amount_nano, balance_after_nano, payment_id, order_id, promo_code, note
FROM ledger
WHERE org = {org:String} AND rid >= {from_rid:UInt64}
ORDER BY org, rid
LIMIT {rows:UInt16}
