"""The request event: what a gateway publishes for each finished request, and how bytes become one.

Owns: the event's types and limits (the JSON Schema in `schemas/` is made from them), decoding, and
the reasons for which bytes are no event.
Called by: `posting/requests.py` on the way in; `gateway/` checks what it publishes with the same types.

The form is CloudEvents 1.0 JSON (https://github.com/cloudevents/spec, json-format), one event or an
array of them; `data.usage` is the OpenAI usage object. Unknown fields are ignored.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct, structs

from pipeline.ist import DAY_MS
from pipeline.outcomes import DeadLetterReason
from pipeline.usage import UNREADABLE, Usage

ELEMENTS_MAX = 20_000
"""More elements than valid events fit into a record: a record of two million commas must not become two
million dead letters."""
FAILED_FROM = 400
"""The lowest status of a failed request: below it, a request was served."""
EVENT_TYPE = "bharatrouter.request.completed.v1"
MAX_LATENCY_MS = 86_400_000
LATE_MS = 35 * DAY_MS
"""How old an event may be, against the broker's time stamp of its record."""
AHEAD_MS = 10 * 60_000
"""How far ahead of that time stamp an event may be."""
STAMP_AHEAD_MS = 10 * 60_000
"""By how much a broker's time stamp may be ahead of the worker's clock. The time of posting follows the stamps and
never falls: one stamp far ahead would end budgets and daily limits early, and the memory of duplicates with them."""
MAX_SEQUENCE_DIGITS = 20

Name = Annotated[str, Meta(min_length=1, max_length=256)]
OrgId = Annotated[
    str,
    Meta(min_length=1, max_length=128, extra_json_schema={"not": {"pattern": "[\\u0000-\\u001f]"}}),
]
KeyId = Annotated[str, Meta(min_length=1, max_length=128)]
Milliseconds = Annotated[int, Meta(ge=0, le=MAX_LATENCY_MS)] | Annotated[float, Meta(ge=0, le=MAX_LATENCY_MS)]
Timestamp = Annotated[str, Meta(min_length=20, max_length=40, extra_json_schema={"format": "date-time"})]
Sequence = Annotated[
    str,
    Meta(min_length=1, max_length=MAX_SEQUENCE_DIGITS, extra_json_schema={"not": {"pattern": "[^0-9]"}}),
]


class RequestData(Struct, gc=False):
    """What happened in one request. A failed one may lack `usage` and `provider`."""

    key_id: KeyId
    tier: Literal["standard", "trial"]
    byok: bool
    model: Name
    status: Annotated[int, Meta(ge=100, le=599)]
    latency_ms: Milliseconds
    provider: Name | None = None
    usage: Usage | None = None
    error_code: Annotated[str, Meta(max_length=256)] | None = None
    ttft_ms: Milliseconds | None = None
    stream: bool | None = None


class FailedData(RequestData, gc=False, kw_only=True):
    """What happened in a failed request: whatever its usage is, the request counts."""

    status: Annotated[int, Meta(ge=FAILED_FROM, le=599)]
    usage: Any = None


class RequestEvent(Struct, gc=False):
    """One finished request as a CloudEvent. `subject` is the org; `time` is RFC 3339 with an offset."""

    specversion: Literal["1.0"]
    type: Literal["bharatrouter.request.completed.v1"]
    source: Name
    id: Name
    subject: OrgId
    time: Timestamp
    data: RequestData
    sequence: Sequence | None = None


class Problem(NamedTuple):
    """What makes an event of the right types invalid: the path of the field, and what is wrong with it."""

    field: str
    text: str


class FailedEvent(RequestEvent, gc=False, kw_only=True):
    """A failed request as a CloudEvent."""

    data: FailedData


class UnreadBatch(bytes):
    """A record batch as it came, compressed, that was not read as it is too large: `detail` says so."""

    detail = ""


class Rejected(Struct, frozen=True):
    """Bytes that are no event: `reason` is the dead letter's, `detail` says what is wrong."""

    reason: DeadLetterReason
    detail: str


_decode_batch = msgspec.json.Decoder(list[RequestEvent]).decode
_decode_event = msgspec.json.Decoder(RequestEvent).decode
_decode_failed = msgspec.json.Decoder(FailedEvent).decode
_decode_raw_batch = msgspec.json.Decoder(list[Raw]).decode

_ARRAY = ord("[")
_JSON_SPACE = b" \t\n\r"
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def is_org(subject: str) -> bool:
    """Whether a subject may be an org's id: control characters are kept for the product's own keys."""
    return subject.isprintable() or min(subject) >= " "


def is_sequence(text: str) -> bool:
    """Whether a text is made of the digits 0 to 9 alone."""
    return text.isdecimal() and text.isascii()


def problem_of(event: RequestEvent) -> Problem | None:
    """Return the first thing that makes an event invalid though all its fields are of the right types, or None.

    Gateways refuse such an event, and the worker makes a dead letter of it. When it arrived plays no part here.
    """
    if _timestamps.ms(event.time) is None:
        return Problem("time", f"is no RFC 3339 time with an offset: {event.time!r}")
    if event.data.status < FAILED_FROM and event.data.usage is None:
        return Problem("data.usage", "is missing: a served request needs it")
    if event.data.status < FAILED_FROM and event.data.provider is None:
        return Problem("data.provider", "is missing: a served request needs it")
    if event.sequence is not None and not is_sequence(event.sequence):
        return Problem("sequence", "is not made of digits")
    if not is_org(event.subject):
        return Problem("subject", "has control characters")
    return None


def decode_record(value: bytes | None) -> list[RequestEvent] | None:
    """Return the events of a record's value, or None where any part of it is no valid event."""
    if not value:
        return None
    try:
        if value[0] == _ARRAY:
            return _decode_batch(value)
        return [_decode_event(value)]
    except _UNREADABLE:
        return None


def split_record(value: bytes | None) -> list[tuple[bytes, RequestEvent | Rejected]]:
    """Return each element of a record with the bytes it came as: the careful way, for the odd record.

    A record that is cut off, or has no value, is one malformed element.
    """
    if not value:
        return [(b"", Rejected(DeadLetterReason.MALFORMED, "the record has no value"))]
    if isinstance(value, UnreadBatch):
        return [(bytes(value), Rejected(DeadLetterReason.MALFORMED, value.detail))]
    if value.count(b",") > _TOKENS_MAX:
        return [
            (
                value,
                Rejected(
                    DeadLetterReason.INVALID,
                    f"more than {_TOKENS_MAX} commas, and not all of it events: too much to be taken apart",
                ),
            )
        ]
    elements = elements_of(value)
    if elements is None:
        return [
            (
                value,
                Rejected(
                    DeadLetterReason.MALFORMED, "not JSON: the array is cut off, or its brackets do not match"
                ),
            )
        ]
    if len(elements) > ELEMENTS_MAX:
        return [
            (
                value,
                Rejected(
                    DeadLetterReason.INVALID, f"an array of {len(elements)} elements, not all of them events"
                ),
            )
        ]
    return [(element, decode_element(element)) for element in elements]


def elements_of(value: bytes) -> list[bytes] | None:
    """Return the bytes of each event in a record: an array's elements, or else the value itself.

    None where the value is an array that does not end where the record ends.
    """
    if value.lstrip(_JSON_SPACE)[:1] != b"[":
        return [value]
    try:
        return [bytes(raw) for raw in _decode_raw_batch(value)]
    except _UNREADABLE:
        return _scan_array(value)


_TOKENS_MAX = 1_000_000
"""What a record full of events may have; nonsense beyond it is not worth the time it takes."""
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)


def _scan_array(value: bytes) -> list[bytes] | None:
    """Return the elements of an array of which some element is not JSON, told apart by brackets alone.

    One event that cannot be read must not take its neighbours with it, however deep or broken it is.
    """
    elements: list[bytes] = []
    depth, start = 0, 0
    for tokens, token in enumerate(_TOKEN.finditer(value)):
        text = token[0]
        if text in (b"[", b"{"):
            depth += 1
            if depth == 1:
                start = token.end()
        elif text in (b"]", b"}"):
            depth -= 1
            if depth == 0:
                elements.append(value[start : token.start()].strip(_JSON_SPACE))
                closed = text == b"]" and not value[token.end() :].strip(_JSON_SPACE)
                return elements if closed else None
        elif text == b"," and depth == 1:
            elements.append(value[start : token.start()].strip(_JSON_SPACE))
            start = token.end()
        elif text == b'"' or tokens > _TOKENS_MAX:
            return None
    return None


def decode_element(value: bytes) -> RequestEvent | Rejected:
    """Return the event that valid JSON bytes hold, or why they hold none."""
    try:
        return _decode_event(value)
    except msgspec.ValidationError as error:
        return _failed_of(value) or Rejected(DeadLetterReason.INVALID, str(error))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return Rejected(DeadLetterReason.MALFORMED, f"not JSON: {error}")
    except RecursionError:
        return Rejected(DeadLetterReason.MALFORMED, "nested too deeply")


def _failed_of(value: bytes) -> RequestEvent | None:
    """Return the event of a failed request that is valid but for its usage, or None."""
    try:
        return without_usage(_decode_failed(value))
    except _UNREADABLE:
        return None


def without_usage(failed: FailedEvent) -> RequestEvent:
    """Return the event of a failed request whose usage is none; it is marked where it is counted."""
    data = RequestData(**{**structs.asdict(failed.data), "usage": UNREADABLE})
    return RequestEvent(**{**structs.asdict(failed), "data": data})


def whole_ms(latency_ms: float) -> int:
    """Return a latency rounded to whole milliseconds, a half upwards."""
    return latency_ms if isinstance(latency_ms, int) else int(latency_ms + 0.5)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SECONDS_KEPT = 8192
_FRACTIONS = {f"{ms:03d}Z": ms for ms in range(1000)}
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt]((?:[01]\d|2[0-3]):[0-5]\d):([0-5]\d|60)(?:\.(\d+))?"
    r"([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)\Z",
    re.ASCII,
)
_LAST_SECOND_OF_DAY_MS = 86_399_000


class Timestamps:
    """Parses RFC 3339 times to milliseconds, remembering whole seconds, which repeat within a batch.

    The fraction is cut to the millisecond, never rounded: rounding could move a request to the next
    IST day. A leap second (23:59:60 UTC) counts as the second after it, as POSIX clocks have it.
    """

    def __init__(self) -> None:
        """Start with no second remembered."""
        self._second_ms: dict[str, int] = {}

    def ms(self, text: str) -> int | None:
        """Return the milliseconds since the epoch, or None where the text is no RFC 3339 time."""
        second_ms = self._second_ms.get(text[:20])
        fraction_ms = _FRACTIONS.get(text[20:])
        if second_ms is not None and fraction_ms is not None:
            return second_ms + fraction_ms
        return self._parse(text)

    def _parse(self, text: str) -> int | None:
        match = _RFC3339.match(text)
        if match is None:
            return None
        day, minute, second, fraction, zone = match.groups()
        leap = second == "60"
        try:
            at = datetime.fromisoformat(
                f"{day}T{minute}:{'59' if leap else second}{'+00:00' if zone in 'Zz' else zone}"
            )
        except ValueError:
            return None
        second_ms = (at - _EPOCH) // _MILLISECOND
        if leap:
            if second_ms % DAY_MS != _LAST_SECOND_OF_DAY_MS:
                return None
            second_ms += 1000
        if zone == "Z":
            if len(self._second_ms) >= _SECONDS_KEPT:
                self._second_ms.clear()
            self._second_ms[text[:19] + "."] = second_ms
        return second_ms + int((fraction or "0")[:3].ljust(3, "0"))


_timestamps = Timestamps()
