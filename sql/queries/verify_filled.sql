-- name: verify_filled
-- caller: pipeline/operations/verify.py
-- scope: platform
-- parameters: roll_up String
--
-- The partitions of the journal whose rows from before a roll-up was made are in it.
SELECT DISTINCT partition FROM filled_roll_ups WHERE roll_up = {roll_up:String} ORDER BY partition
