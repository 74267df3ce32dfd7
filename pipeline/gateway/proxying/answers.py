"""What an answer says of its tokens, and a failure of its reason, in the words of events.

Owns: usage objects as proxies normalise them, and what has been seen of an answer.
Called by: `gateway/litellm.py`. Pure. Next: `gateway/sending/dialects.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.events import FAILED_FROM
from pipeline.gateway.sending.dialects import openai_usage

_LAST_STATUS = 599
_UNKNOWN_FAILURE = 500


def usage_of(answer: object) -> dict[str, Any] | None:
    """Return an event's usage from an answer's, None where it tells none or no whole numbers.

    LiteLLM has every provider's in OpenAI's form, but for cache writes, which it calls `cache_creation_tokens`.
    """
    usage = answer.get("usage") if isinstance(answer, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    try:
        found = openai_usage(usage, "openai")
    except ValueError:
        return None
    details = usage.get("prompt_tokens_details")
    if isinstance(details, Mapping):
        written = details.get("cache_creation_tokens")
        if isinstance(written, int) and not found["prompt_tokens_details"]["cache_write_tokens"]:
            found["prompt_tokens_details"]["cache_write_tokens"] = max(written, 0)
    return found


class AnswerRead:
    """What was read of an answer: its chunks, of which one that is no stream has one, their text, the usage told last.

    A usage of no tokens at all is none: some proxies fill it in where the provider told nothing.
    """

    def __init__(self) -> None:
        """Start with nothing read."""
        self.chunks: list[Any] = []
        self.usage: dict[str, Any] | None = None
        self._texts: list[str] = []

    def add(self, plain: object, chunk: Any) -> None:
        """Take in a chunk, as plain JSON values and as the proxy has it."""
        self.chunks.append(chunk)
        told = usage_of(plain)
        if told is not None and (told["prompt_tokens"] or told["completion_tokens"]):
            self.usage = told
        if isinstance(plain, Mapping):
            self._texts += _texts_of(plain)

    @property
    def text(self) -> str:
        """The answer's text so far."""
        return "".join(self._texts)


def _texts_of(chunk: Mapping[str, Any]) -> list[str]:
    texts = []
    for choice in chunk.get("choices") or ():
        part = choice.get("delta") or choice.get("message") or {}
        texts += [text for text in (part.get("content"), choice.get("text")) if isinstance(text, str)]
    return texts


def failure_of(error: BaseException) -> tuple[int, str]:
    """Return the status and the code of a failed request: its own, or 500 and the error's name."""
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    try:
        number = int(str(status))
    except ValueError:
        number = _UNKNOWN_FAILURE
    code = getattr(error, "code", None)
    named = isinstance(code, str) and bool(code) and not code.isdecimal()
    return (
        number if FAILED_FROM <= number <= _LAST_STATUS else _UNKNOWN_FAILURE,
        str(code) if named else type(error).__name__,
    )
