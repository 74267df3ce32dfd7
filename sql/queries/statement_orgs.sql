-- name: statement_orgs
-- caller: pipeline/telling/statements_ready.py
-- scope: platform
-- parameters: until_ms Int64
--
-- The orgs that had anything posted to their ledger before an instant: whoever signed up has its signup credit there.
SELECT DISTINCT org
FROM ledger
WHERE posted_ms < {until_ms:Int64}
ORDER BY org
