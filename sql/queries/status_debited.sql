-- name: status_debited
-- caller: pipeline/status/places.py
-- scope: platform
-- parameters: day Date
--
-- What all requests of an IST day were debited, in nano-rupees: one row, 0 before the first. Of a whole platform that may not
-- fit into 64 bits.
SELECT sum(toInt128(cost_nano)) FROM usage_day WHERE day = {day:Date}
