"""Turn a provider's own usage object into the one of request events, so that its counts are regular.

Owns: how each provider counts. docs/gateway.md has the table, `schemas/usage-corpus.json` an example of each.
Called by: gateway authors, before they publish. Next: `pipeline/usage.py` has the rule for what comes in.

The facts are from the providers' API references: OpenAI (Chat Completions, Responses, audio), Anthropic
(Messages), Google (generateContent, its OpenAI-compatible endpoint), Amazon (Bedrock Converse), DeepSeek, xAI and
Cohere (v2 Chat, Embed, Rerank). What these do not say about a count is left to the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

Dialect = Literal["openai", "anthropic", "gemini", "bedrock", "deepseek", "xai", "cohere"]
Given = Mapping[str, Any]


def openai_usage(usage: Given, dialect: Dialect) -> dict[str, Any]:
    """Return the usage object of an event from that of a provider, a mapping as its JSON has it.

    Absent and null counts are 0; fields that no charge depends on are left out. Raises ValueError for an unknown
    dialect and for a count that is no whole number of 0 or more, naming it; TypeError for what is no mapping.
    """
    if dialect not in _READERS:
        raise ValueError(f"dialect is one of {', '.join(get_args(Dialect))}, not {dialect!r}")
    if not isinstance(usage, Mapping):
        raise TypeError(f"a usage object is a mapping, not a {type(usage).__name__}")
    return _READERS[dialect](usage)


def _usage(
    prompt: int,
    completion: int,
    total: int | None = None,
    *,
    cached: int = 0,
    written: int = 0,
    audio: int = 0,
    reasoning: int = 0,
    spoken: int = 0,
) -> dict[str, Any]:
    """Return an event's usage object. Where no total is given, it is that of prompt and completion."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion if total is None else total,
        "prompt_tokens_details": {
            "cached_tokens": cached,
            "cache_write_tokens": written,
            "audio_tokens": audio,
        },
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": spoken},
    }


def _openai(usage: Given) -> dict[str, Any]:
    """Read both of OpenAI's forms: `prompt_tokens` of Chat Completions, `input_tokens` of Responses and audio.

    Its audio tokens may have been cached, and then stand in both counts: they are charged as cached ones.
    """
    prompt = _count(usage, "prompt_tokens", "input_tokens")
    completion = _count(usage, "completion_tokens", "output_tokens")
    total = _count(usage, "total_tokens") if usage.get("total_tokens") is not None else None
    of_prompt = _details(usage, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    of_completion = _details(
        usage, "completion_tokens_details", "output_tokens_details", "output_token_details"
    )
    cached_audio = _count(_details(of_prompt, "cached_tokens_details"), "audio_tokens")
    return _usage(
        prompt,
        completion,
        total,
        cached=_count(of_prompt, "cached_tokens"),
        written=_count(of_prompt, "cache_write_tokens"),
        audio=max(_count(of_prompt, "audio_tokens") - cached_audio, 0),
        reasoning=_count(of_completion, "reasoning_tokens"),
        spoken=_count(of_completion, "audio_tokens"),
    )


def _anthropic(usage: Given) -> dict[str, Any]:
    """`input_tokens` are those after the last cache breakpoint: reads and writes of the cache come beside them."""
    read = _count(usage, "cache_read_input_tokens")
    written = _count(usage, "cache_creation_input_tokens")
    if not written:
        by_lifetime = _details(usage, "cache_creation")
        written = sum(_count(by_lifetime, name) for name in by_lifetime)
    prompt = _count(usage, "input_tokens") + read + written
    return _usage(prompt, _count(usage, "output_tokens"), cached=read, written=written)


def _gemini(usage: Given) -> dict[str, Any]:
    """Thoughts are output that the candidates' count leaves out, and what tools brought in is input.

    The OpenAI-compatible endpoint tells of thoughts in the total alone. Some answers of the native one leave the
    count of thoughts out too: what the total has more than its parts is thoughts either way.
    """
    native = usage.get("promptTokenCount") is not None or usage.get("prompt_token_count") is not None
    if not native and usage.get("prompt_tokens") is not None:
        found = _openai(usage)
        beside = found["total_tokens"] - found["prompt_tokens"] - found["completion_tokens"]
        return _with_reasoning(found, beside) if beside > 0 else found
    prompt = _count(usage, "promptTokenCount", "prompt_token_count")
    prompt += _count(usage, "toolUsePromptTokenCount", "tool_use_prompt_token_count")
    answer = _count(
        usage, "candidatesTokenCount", "candidates_token_count", "responseTokenCount", "response_token_count"
    )
    thoughts = _count(usage, "thoughtsTokenCount", "thoughts_token_count")
    total = _count(usage, "totalTokenCount", "total_token_count")
    thoughts = max(thoughts, total - prompt - answer)
    cached_audio = _audio(usage, "cacheTokensDetails", "cache_tokens_details")
    return _usage(
        prompt,
        answer + thoughts,
        cached=_count(usage, "cachedContentTokenCount", "cached_content_token_count"),
        audio=max(_audio(usage, "promptTokensDetails", "prompt_tokens_details") - cached_audio, 0),
        reasoning=thoughts,
        spoken=_audio(
            usage,
            "candidatesTokensDetails",
            "candidates_tokens_details",
            "responseTokensDetails",
            "response_tokens_details",
        ),
    )


def _bedrock(usage: Given) -> dict[str, Any]:
    """Converse counts cache reads and writes beside `inputTokens`; whether its total has them differs by model."""
    read, written = _count(usage, "cacheReadInputTokens"), _count(usage, "cacheWriteInputTokens")
    prompt = _count(usage, "inputTokens") + read + written
    return _usage(prompt, _count(usage, "outputTokens"), cached=read, written=written)


def _deepseek(usage: Given) -> dict[str, Any]:
    """OpenAI's object, but cache hits stand at its top, as `prompt_cache_hit_tokens`."""
    found = _openai(usage)
    hits = _count(usage, "prompt_cache_hit_tokens")
    found["prompt_tokens_details"]["cached_tokens"] = max(
        hits, found["prompt_tokens_details"]["cached_tokens"]
    )
    return found


def _xai(usage: Given) -> dict[str, Any]:
    """OpenAI's object, but the reasoning is beside `completion_tokens`, where the total does not say otherwise."""
    found = _openai(usage)
    reasoning = found["completion_tokens_details"]["reasoning_tokens"]
    within = found["prompt_tokens"] + found["completion_tokens"]
    responses = usage.get("prompt_tokens") is None
    if usage.get("total_tokens") is None:
        return found if responses else _with_reasoning(found, reasoning)
    return _with_reasoning(found, reasoning) if found["total_tokens"] == within + reasoning else found


def _cohere(usage: Given) -> dict[str, Any]:
    """Cohere charges its billed units, which leave out the tokens that its own prompt templates add.

    A rerank has search units and no tokens: it costs the route's fee a request. Takes `usage` of v2, or `meta`.
    """
    billed = _details(usage, "billed_units") or _details(usage, "tokens")
    prompt = _count(billed, "input_tokens")
    cached = min(_count(usage, "cached_tokens"), prompt)
    return _usage(prompt, _count(billed, "output_tokens"), cached=cached)


_READERS: dict[str, Callable[[Given], dict[str, Any]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "bedrock": _bedrock,
    "deepseek": _deepseek,
    "xai": _xai,
    "cohere": _cohere,
}


def _with_reasoning(usage: dict[str, Any], beside: int) -> dict[str, Any]:
    """Return a usage object to whose completion the reasoning was added that was counted beside it."""
    completion = usage["completion_tokens"] + beside
    details = usage["completion_tokens_details"]
    return {
        **usage,
        "completion_tokens": completion,
        "total_tokens": usage["prompt_tokens"] + completion,
        "completion_tokens_details": {
            **details,
            "reasoning_tokens": max(details["reasoning_tokens"], beside),
        },
    }


def _count(usage: Given, *names: str) -> int:
    """Return the first count that is given under one of the names, 0 where none is."""
    for name in names:
        value = usage.get(name)
        if value is None:
            continue
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or value < 0:
            raise ValueError(f"{name} is a whole number of 0 or more, not {value!r}")
        return int(value)
    return 0


def _details(usage: Given, *names: str) -> Given:
    """Return the first object that is given under one of the names, an empty one where none is."""
    for name in names:
        value = usage.get(name)
        if isinstance(value, Mapping):
            return value
    return {}


def _audio(usage: Given, *names: str) -> int:
    """Return the audio tokens of Gemini's counts by modality, a list under one of the names."""
    for name in names:
        parts = usage.get(name)
        if isinstance(parts, list):
            of_audio = [
                part for part in parts if isinstance(part, Mapping) and part.get("modality") == "AUDIO"
            ]
            return sum(_count(part, "tokenCount", "token_count") for part in of_audio)
    return 0
