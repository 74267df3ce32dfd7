"""Answers: how they are encoded, and what the OpenAPI document says of them.

Owns: money in JSON, and the parts that answers have in common.
Called by: the routers.

Routes build plain values and encode them here; money goes out as the digits of its integer, through
no float. The pydantic models next to the routes only document: the tests hold real answers against them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from pipeline import ist
from pipeline.money import format_inr
from pipeline.outcomes import ErrorType, RefusalCode

PRIVATE = "private, no-store"

_encode = msgspec.json.Encoder().encode

Rupees = Annotated[
    Any,
    WithJsonSchema({"type": "number", "description": "Rupees, exact to 9 decimals", "examples": [0.0061]}),
]
Moment = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
DayText = Annotated[str, WithJsonSchema({"type": "string", "format": "date"})]
Count = Annotated[int, Field(ge=0)]


class Documented(BaseModel):
    """What the OpenAPI document says of an answer: these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class ErrorFields(BaseModel):
    """What went wrong. Callers branch on `code`; `param` names a bad parameter."""

    message: str
    type: ErrorType
    code: RefusalCode
    param: str | None = None
    request_id: str | None = None


class ErrorAnswer(Documented):
    """The envelope of every failure."""

    error: ErrorFields


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what the OpenAPI document says of a route's failures."""
    return {status: {"model": ErrorAnswer} for status in (*statuses, 503)}


def attachment(name: str) -> str:
    """Return the header that has a browser keep a file under a name (RFC 6266), whatever is in the name."""
    plain = "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def preferred_type(accept: str, offered: Sequence[str]) -> str:
    """Return which of the offered media types an Accept header names first, the first offered where it names none."""
    ranges = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return next((each for each in ranges if each in offered), offered[0])


def rupees(amount_nano: int) -> msgspec.Raw:
    """Return an amount in nano-rupees as the JSON number of its rupees."""
    return msgspec.Raw(format_inr(amount_nano).encode())


def moment(at_ms: int) -> str:
    """Return an instant as an answer shows it."""
    return ist.isoformat(at_ms)


def json_array(texts: Sequence[bytes]) -> msgspec.Raw:
    """Return JSON texts as one array, unread."""
    return msgspec.Raw(b"[" + b",".join(texts) + b"]")


def json_answer(value: object, cache_control: str = PRIVATE) -> Response:
    """Return a 200 answer with a value in JSON; bytes are taken as JSON already."""
    content = value if isinstance(value, bytes) else _encode(value)
    return Response(content, media_type="application/json", headers={"Cache-Control": cache_control})
