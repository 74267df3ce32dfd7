-- name: verify_requests
-- caller: pipeline/operations/signed_days.py
-- scope: platform
-- parameters: partition UInt16, low UInt64, high UInt64
--
-- The whole rows of requests of one partition between two ids, both included.
SELECT {{request_columns}}
FROM events
WHERE id BETWEEN {low:UInt64} AND {high:UInt64} AND id % 1024 = {partition:UInt16}
ORDER BY id
