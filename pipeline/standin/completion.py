"""What the stand-in gateway answers: an OpenAI chat request read, its tokens counted, its words made up.

Owns: the request's form, the counting (a token is a word here), the canned text, which providers serve.
Called by: `standin/gateway.py`, and `demo/traffic.py`, which asks for requests of a known cost.

Pure. Nothing here runs a model: the text is the same sentences over and over, the figures are real.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from pipeline.catalog.rates import RateTable

COMPLETION_TOKENS = 48
"""How long an answer is where the request sets no limit."""
COMPLETION_TOKENS_MAX = 8192
CACHED_SHARE = 2
"""A request with a `prompt_cache_key` finds one part in this many of its prompt cached."""

_TEXT = (
    "Namaste! This answer was written beforehand; no model has thought about it. What counts is what "
    "happens to it now: its tokens are priced by the rate in force, the cost leaves the balance to the "
    "nano-rupee, and a moment later it shows in usage, in activity and in the events. "
)
_WORDS = _TEXT.split()

_PLACE = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?\Z", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`\Z")


class Message(Struct):
    """One message of the chat; its content is a text or a list of parts."""

    role: str
    content: str | list[dict[str, Any]] | None = None


class StreamOptions(Struct):
    """OpenAI's `stream_options`."""

    include_usage: bool = False


class ChatRequest(Struct):
    """The fields of a chat completion request that matter here; all others are ignored."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    prompt_cache_key: str | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage


class BadRequest(Exception):
    """A request that cannot be read: `param` names the field, where there is one."""

    def __init__(self, message: str, param: str | None = None) -> None:
        """Say what is wrong."""
        super().__init__(message)
        self.param = param


class Completion(Struct, frozen=True):
    """What a request is answered and what it used, in tokens. Cached tokens are part of the prompt's."""

    words: list[str]
    prompt_tokens: int
    cached_tokens: int

    def usage(self, completion_tokens: int | None = None) -> dict[str, Any]:
        """Return OpenAI's usage object, for the whole answer or the part of it that was sent."""
        completion = len(self.words) if completion_tokens is None else completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }


_decode = msgspec.json.Decoder(ChatRequest).decode


def read(body: bytes) -> ChatRequest:
    """Return the request of a body. Raises BadRequest, which names the field."""
    try:
        return _decode(body)
    except msgspec.ValidationError as error:
        found = _PLACE.match(str(error))
        problem, place = (found.group(1), found.group(2)) if found else (str(error), None)
        missing = _MISSING.match(problem)
        if missing:
            place = ".".join(part for part in (place, missing.group(1)) if part)
            problem = "is missing"
        raise BadRequest(f"{place or 'the body'}: {problem}", place) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadRequest("the body is not JSON") from None


def answer(request: ChatRequest) -> Completion:
    """Return what a request is answered."""
    limit = request.max_completion_tokens or request.max_tokens or COMPLETION_TOKENS
    length = min(limit, COMPLETION_TOKENS_MAX)
    words = (_WORDS * (length // len(_WORDS) + 1))[:length]
    prompt_tokens = sum(_tokens(message) for message in request.messages)
    return Completion(words, prompt_tokens, prompt_tokens // CACHED_SHARE if request.prompt_cache_key else 0)


def providers_of(rates: RateTable, model: str, at_ms: int) -> list[str]:
    """Return who serves a model at an instant: the cheapest first, the others to fall back on."""
    routes = {rate.route for rate in rates if rate.model == model}
    in_force = [rate for route in routes if (rate := rates.in_force(*route, at_ms)) is not None]
    return [r.provider for r in sorted(in_force, key=lambda r: (r.input_nano + r.output_nano, r.provider))]


def _tokens(message: Message) -> int:
    content = message.content
    if isinstance(content, str):
        return len(content.split())
    return sum(len(part["text"].split()) for part in content or () if isinstance(part.get("text"), str))
