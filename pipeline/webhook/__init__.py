"""Webhooks: notices sent to the URL that an org has set, signed as the Standard Webhooks specification says.

`protocol.py` has the steps in their order, `message.py` what is sent, `signing.py` the signature; these and `waiting.py`
are pure. `sender.py`, `partition.py` and `sending.py` are doors.
"""
