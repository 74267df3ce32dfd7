"""Which requests of an OpenAI-compatible proxy are metered, and which cannot be.

Owns: the routes, and what makes a request one that could not be charged for what it is. Pure.
Called by: `gateway/litellm.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pipeline.gateway.proxying.admitted import NAME_MAX

_METERED = re.compile(
    r"(?:/v1|/engines/[^/]+|/openai/deployments/[^/]+)?/(?:chat/completions|completions|embeddings)/?"
)
_LISTINGS = re.compile(r"(?:/v1)?/models(?:/.+)?/?")


def is_metered(route: str) -> bool:
    """Whether what a route serves becomes an event."""
    return _METERED.fullmatch(route) is not None


def is_listing(route: str) -> bool:
    """Whether a route only tells which models there are."""
    return _LISTINGS.fullmatch(route) is not None


def embeds(call_type: str) -> bool:
    """Whether a call of LiteLLM's type has an answer without tokens."""
    return "embedding" in call_type


def problem_of(body: Mapping[str, Any]) -> str | None:
    """Return why a request could not be charged for what it is, None where it could."""
    model = body.get("model")
    if not isinstance(model, str) or not 1 <= len(model) <= NAME_MAX:
        return f"model must be a text of 1 to {NAME_MAX} characters"
    if "," in model:
        return "one request asks one model here"
    if body.get("stream") and "messages" not in body:
        # LiteLLM tells no usage in such a stream, and breaks it off where it is read by a callback.
        return "a text completion cannot be streamed here: ask for it whole, or for a chat completion"
    return None
