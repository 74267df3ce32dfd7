-- name: is_rolled_up
-- caller: pipeline/api/services/history.py
-- scope: platform
-- parameters: id UInt64
--
-- Whether a row of the journal is there, of whichever kind, and in the roll-ups by org, of which the one by day of posting has the
-- rows from before it was made too. A partition's rows come in order, so all before it are there then. One row, 0 where it is not so.
SELECT if(
    (SELECT count() FROM filled_roll_ups WHERE roll_up = 'posted_day' AND partition = {id:UInt64} % 1024) = 0,
    0,
    (SELECT count() FROM ledger WHERE id = {id:UInt64}) + (
        SELECT count() FROM posted_day
        WHERE (org, posted_day) IN (SELECT org, {{posted_day}} FROM events WHERE id = {id:UInt64})
            AND last_id >= {id:UInt64}
    ) * (
        SELECT count() FROM usage_day
        WHERE (org, day) IN (SELECT org, day FROM events WHERE id = {id:UInt64}) AND last_id >= {id:UInt64}
    )
)
