-- name: proof_rates
-- caller: pipeline/api/services/proving.py
-- scope: org
-- parameters: from_ms Int64, to_ms Int64, below UInt64
--
-- By which rates requests were charged that were posted between two instants, both included, and what says whether they
-- were free.
SELECT model, provider, rate_from_ms, byok, status, tier
FROM events
WHERE org = {org:String} AND posted_ms BETWEEN {from_ms:Int64} AND {to_ms:Int64} AND id < {below:UInt64}
GROUP BY model, provider, rate_from_ms, byok, status, tier
