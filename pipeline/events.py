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
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

EVENT_TYPE = "bharatrouter.request.completed.v1"
MAX_TOKENS = 100_000_000
MAX_LATENCY_MS = 86_400_000
MAX_SEQUENCE_DIGITS = 20

Name = Annotated[str, Meta(min_length=1, max_length=256)]
OrgId = Annotated[str, Meta(min_length=1, max_length=128)]
KeyId = Annotated[str, Meta(min_length=1, max_length=128)]
Tokens = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
Milliseconds = Annotated[int, Meta(ge=0, le=MAX_LATENCY_MS)]
Timestamp = Annotated[str, Meta(min_length=20, max_length=40, extra_json_schema={"format": "date-time"})]
Sequence = Annotated[
    str, Meta(min_length=1, max_length=MAX_SEQUENCE_DIGITS, extra_json_schema={"pattern": "^[0-9]+$"})
]


class PromptDetails(Struct, gc=False):
    """OpenAI's `prompt_tokens_details`; cached tokens are part of `prompt_tokens`."""

    cached_tokens: Tokens | None = None


class CompletionDetails(Struct, gc=False):
    """OpenAI's `completion_tokens_details`; reasoning tokens are part of `completion_tokens`."""

    reasoning_tokens: Tokens | None = None


class Usage(Struct, gc=False):
    """OpenAI's usage object, in tokens."""

    prompt_tokens: Tokens
    completion_tokens: Tokens
    total_tokens: Tokens | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


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


class Rejected(Struct, frozen=True):
    """Bytes that are no event: `reason` is the dead letter's, `detail` says what is wrong."""

    reason: Literal["malformed", "invalid"]
    detail: str


_decode_batch = msgspec.json.Decoder(list[RequestEvent]).decode
_decode_event = msgspec.json.Decoder(RequestEvent).decode
_decode_raw_batch = msgspec.json.Decoder(list[Raw]).decode
_decode_any = msgspec.json.Decoder().decode

_ARRAY = ord("[")


def decode_record(value: bytes | None) -> list[RequestEvent] | None:
    """Return the events of a record's value, or None where any part of it is no valid event."""
    if not value:
        return None
    try:
        if value[0] == _ARRAY:
            return _decode_batch(value)
        return [_decode_event(value)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def split_record(value: bytes | None) -> list[tuple[bytes, RequestEvent | Rejected]]:
    """Return each element of a record with the bytes it came as: the careful way, for the odd record.

    A record that is not JSON at all is one malformed element.
    """
    if not value:
        return [(b"", Rejected("malformed", "the record has no value"))]
    try:
        document = _decode_any(value)
        if isinstance(document, list):
            return [(bytes(raw), decode_element(bytes(raw))) for raw in _decode_raw_batch(value)]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return [(value, Rejected("malformed", f"not JSON: {error}"))]
    except RecursionError:
        return [(value, Rejected("malformed", "nested too deeply"))]
    return [(value, decode_element(value))]


def decode_element(value: bytes) -> RequestEvent | Rejected:
    """Return the event that valid JSON bytes hold, or why they hold none."""
    try:
        return _decode_event(value)
    except msgspec.ValidationError as error:
        return Rejected("invalid", str(error))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return Rejected("malformed", f"not JSON: {error}")
    except RecursionError:
        return Rejected("malformed", "nested too deeply")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SECONDS_KEPT = 8192
_FRACTIONS = {f"{ms:03d}Z": ms for ms in range(1000)}
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII
)


class Timestamps:
    """Parses RFC 3339 times to milliseconds, remembering whole seconds, which repeat within a batch.

    The fraction is cut to the millisecond, never rounded: rounding could move a request to the next
    IST day.
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
        day, clock, fraction, zone = match.groups()
        try:
            at = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
        except ValueError:
            return None
        second_ms = (at - _EPOCH) // _MILLISECOND
        if zone == "Z":
            if len(self._second_ms) >= _SECONDS_KEPT:
                self._second_ms.clear()
            self._second_ms[text[:19] + "."] = second_ms
        return second_ms + int((fraction or "0")[:3].ljust(3, "0"))
