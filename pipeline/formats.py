"""The formats of what is stored: a number for each kind of record, and what becomes of a record of another number.

Owns: which kinds of stored records there are, the newest number of each that this release knows, and the refusal of
a newer one.
Called by: the modules that own the shapes of these records, for reading them; `contract.py` publishes the list.

The rules, and why they are so, are in `docs/adr/0008-formats-of-what-is-stored.md`:

- A record says its number; one without is of format 1.
- A newer number is refused with NewerFormatError: whoever read only what it knows of such a record would act on a
  part of it, and would write that part back in the place of the whole.
- An older number is read as what it was, and written in the newest as it is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from pipeline import topics

T = TypeVar("T")


class NewerFormatError(Exception):
    """A stored record that only a newer release can read. The message says which, and what to do."""


class _Header(Struct):
    format: Annotated[int, Meta(ge=1)] = 1


_decode_header = msgspec.json.Decoder(_Header).decode


def number_of(value: bytes) -> int:
    """Return the format that a JSON object says it is of. Raises msgspec.MsgspecError where it is no such object."""
    return _decode_header(value).format


@dataclass(frozen=True)
class StoredFormat:
    """A kind of stored records: what it is called, the newest number that is known here, and where the number is.

    `rewritten` tells that a reader writes such a record back as a whole. What it does not know would be gone then, so
    every change of its shape is a new number. Of other kinds a field that readers may ignore needs none.
    """

    name: str
    number: int
    said_in: str = "the field `format` of the value, a JSON object"
    rewritten: bool = False

    def check(self, found: int) -> None:
        """Raise NewerFormatError where a record of this kind is of a newer format than is known here."""
        if found > self.number:
            raise NewerFormatError(
                f"{self.name}: a record has format {found}, which a newer release wrote; this one knows formats up to "
                f"{self.number}. Start the newer release."
            )

    def decoder(
        self, of: type[T], older: Mapping[int, Callable[[bytes], T]] | None = None
    ) -> Callable[[bytes], T]:
        """Return a function that reads a value in JSON: as `of` in the newest format, else by that of `older`.

        `of` is a struct whose tag is the newest number, by the name `format`; so encoding writes the number. What is
        returned raises NewerFormatError for a newer format and msgspec.MsgspecError for what is no such record.
        """
        config = of.__struct_config__  # type: ignore[attr-defined]
        assert (config.tag_field, config.tag) == ("format", self.number), f"{of} does not say its format"
        by_number = {**(older or {}), self.number: msgspec.json.Decoder(of).decode}

        def decode(value: bytes) -> T:
            number = number_of(value)
            self.check(number)
            return by_number[number](value)

        return decode


JOURNAL = StoredFormat(topics.JOURNAL, 2, "the header `format` of the record, in decimal")
STATE = StoredFormat(
    topics.STATE, 5, "the field `format` of the partition's record `m`, for all its records", rewritten=True
)
BESIDE_JOURNAL = StoredFormat(
    topics.BESIDE_JOURNAL,
    STATE.number,
    "the field `format` of the partition's record `m`, as in the state topic",
)
RATES = StoredFormat(topics.CATALOG, 2)
PROMOS = StoredFormat(topics.PROMOS, 1)
GATEWAYS = StoredFormat(topics.GATEWAYS, 1)
KEYS = StoredFormat(topics.KEYS, 1)
VERDICTS = StoredFormat(topics.VERDICTS, 1)
ORDERS = StoredFormat(topics.ORDERS, 1)
SESSIONS = StoredFormat(topics.SESSIONS, 1)
TOKENS = StoredFormat(topics.TOKENS, 1, rewritten=True)
MAIL = StoredFormat(topics.MAIL, 2, rewritten=True)
OUTBOX = StoredFormat(topics.MAIL_STATE, 3, rewritten=True)
WEBHOOKS = StoredFormat(topics.WEBHOOKS, 1, rewritten=True)
WEBHOOK_PROGRESS = StoredFormat(topics.WEBHOOKS_STATE, 1, rewritten=True)
RANGES = StoredFormat(topics.SINK_STATE, 3, rewritten=True)
MARKS = StoredFormat(topics.REDRIVE_STATE, 2, "the value itself, in decimal")
CHECKPOINTS = StoredFormat(
    topics.VERIFY_STATE,
    1,
    "the field `format` of the records `head`, `roll-ups`, `signed`, `reconciled` and `verified`, for all records",
)
"""Of another format, older or newer, a checkpoint is not gone on from: all is read, and it is made anew."""
NOTARY_DAYS = StoredFormat(topics.CHECKPOINTS_STATE, 1)
NOTARY_CHUNKS = StoredFormat(topics.NOTARY_STATE, 1)
MIRROR = StoredFormat(topics.MIRROR_STATE, 1, rewritten=True)
SPOOL = StoredFormat(
    "spool", 1, "the field `format` of `spool.json`, for the whole directory", rewritten=True
)

ALL = (
    JOURNAL,
    STATE,
    BESIDE_JOURNAL,
    RATES,
    PROMOS,
    GATEWAYS,
    KEYS,
    VERDICTS,
    ORDERS,
    SESSIONS,
    TOKENS,
    MAIL,
    OUTBOX,
    WEBHOOKS,
    WEBHOOK_PROGRESS,
    RANGES,
    MARKS,
    CHECKPOINTS,
    NOTARY_DAYS,
    NOTARY_CHUNKS,
    MIRROR,
    SPOOL,
)
"""Every kind of records that outlives the process that wrote it."""
