-- name: has_row
-- caller: pipeline/api/services/history.py
-- scope: platform
-- parameters: id UInt64
--
-- Whether a row of the journal is there, of whichever kind. A partition's rows come in order, so all before it are there too.
SELECT (SELECT count() FROM events WHERE id = {id:UInt64}) + (SELECT count() FROM ledger WHERE id = {id:UInt64})
