"""Make an event ready for the spool: fill in what is absent, and refuse what could never be charged.

Owns: the identity of events and the UUIDv7. What makes an event valid is asked of `events.py`, as the worker does.
Called by: `gateway/gateway.py`. Next: `gateway/sending/spool.py` keeps the bytes.

Only the spool's own source is numbered by the spool. An event that names another source keeps the
number it came with, or has none: two spools that number one source would have its events dropped as
duplicates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from pipeline.catalog.rating import is_free
from pipeline.events import EVENT_TYPE, FailedEvent, RequestEvent, problem_of, without_usage
from pipeline.gateway.errors import InvalidEvent

_encode = msgspec.json.Encoder().encode
_PLACE = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?\Z", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`\Z")


class Prepared(Struct):
    """An event that is valid, and its bytes. `free` says that it will cost nothing.

    `given_id` is its id where the caller gave it, for the spool's own source.
    """

    event: RequestEvent
    value: bytes
    given_id: str
    free: bool


def uuid7(at_ms: int, random: bytes) -> str:
    """Return the UUIDv7 (RFC 9562) of an instant; `random` is ten random bytes."""
    high = (0x7000 | (random[0] << 8 | random[1]) & 0x0FFF).to_bytes(2)
    low = bytes((0x80 | random[2] & 0x3F,)) + random[3:10]
    text = (at_ms.to_bytes(6) + high + low).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def prepare(given: Mapping[str, Any], source: str, at_ms: int, random: bytes, number: int) -> Prepared:
    """Return the event of a mapping, checked; an event of the spool's own source takes the number.

    Raises InvalidEvent, which names the field.
    """
    if not isinstance(given, Mapping):
        raise InvalidEvent("event", f"expected a mapping, got {type(given).__name__}")
    fields = {"specversion": "1.0", "type": EVENT_TYPE, **given}
    own = fields.get("source") in (None, source)
    given_id = ""
    if own:
        fields["source"] = source
        if fields.get("sequence") is not None:
            raise InvalidEvent(
                "sequence", "the spool numbers its events; give a `source` of your own with it"
            )
        fields["sequence"] = f"{number:020d}"
    if fields.get("id") is None:
        fields["id"] = uuid7(at_ms, random)
    elif own:
        given_id = str(fields["id"])
    event, value = _convert(fields)
    problem = problem_of(event)
    if problem is not None:
        raise InvalidEvent(problem.field, problem.text)
    return Prepared(event, value, given_id, is_free(event.data))


def _convert(fields: dict[str, Any]) -> tuple[RequestEvent, bytes]:
    try:
        return _convert_as(fields)
    except msgspec.ValidationError as error:
        found = _PLACE.match(str(error))
        problem, place = (found.group(1), found.group(2)) if found else (str(error), None)
        missing = _MISSING.match(problem)
        if missing:
            place = ".".join(part for part in (place, missing.group(1)) if part)
            problem = "is missing"
        raise InvalidEvent(place or "event", problem) from None
    except (UnicodeError, RecursionError, TypeError, ValueError) as error:
        raise InvalidEvent("event", f"cannot be written as JSON: {error}") from None


def _convert_as(fields: dict[str, Any]) -> tuple[RequestEvent, bytes]:
    """Return the event of the fields and its bytes: those of a failed request have its usage as it was given."""
    try:
        event = msgspec.convert(fields, RequestEvent)
    except msgspec.ValidationError:
        try:
            failed = msgspec.convert(fields, FailedEvent)
        except msgspec.ValidationError:
            failed = None
        if failed is None:
            raise
        return without_usage(failed), _encode(failed)
    # Text that is no Unicode passes the types and fails only here.
    return event, _encode(event)
