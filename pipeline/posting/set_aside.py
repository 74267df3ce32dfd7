"""Records that an operator has set aside: the next owner of their partition makes dead letters of them, unread.

Owns: the key of such a record's mark in the state topic; the mark's value is the operator's reason, in UTF-8.
Called by: `operations/quarantine.py` writes marks, `posting/state.py` restores them and deletes them.

A record that ends its worker ends the next one too, so its mark is where each owner looks before it reads any input.
It is the one kind of record in the state topic that its owner does not write. The owner deletes it in the transaction
in which the record becomes a dead letter.
"""

from __future__ import annotations

MARK = b"q"
"""The first byte of a mark's key."""


def key_of(topic: str, offset: int) -> bytes:
    """Return the key of the mark of a record, among those of its partition."""
    return MARK + f"{topic}@{offset}".encode()


def place_of(key: bytes) -> tuple[str, int]:
    """Return the topic and offset of the record that a mark is about."""
    topic, _, offset = key[len(MARK) :].decode().rpartition("@")
    return topic, int(offset)
