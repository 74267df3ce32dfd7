"""What a request can cost at most, before it is served: from its own words, its limit of tokens and the catalog.

Owns: the bound. Pure.
Called by: `gateway/proxying/meter.py`, which has it set aside. Next: `catalog/rates.py`.

A token stands for at least one byte of text, so a prompt has no more tokens than bytes. That is some four times as
many as it has in fact, of the cheaper half of most requests: too much is held until the event, never too little.
Pictures, sound and files have no such bound: each counts as `PART_TOKENS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.catalog.rates import Prices, Rate, RateTable
from pipeline.money import format_inr
from pipeline.usage import MAX_TOKENS, OTHER_CLASSES

PART_TOKENS = 4096
"""What is held for a picture, a sound or a file of the prompt."""
MESSAGE_TOKENS = 16
"""What a chat template adds to a message, or to a tool."""
LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
PROMPTS = ("messages", "prompt", "input", "instructions", "system", "tools", "functions", "response_format")
"""The fields of a request's body that go into its prompt."""

_OTHER_PARTS = frozenset({"image_url", "input_image", "image", "input_audio", "audio", "file", "input_file"})


def max_cost_inr(
    rates: RateTable, body: Mapping[str, Any], *, at_ms: int, hold_tokens: int, embeds: bool = False
) -> str | None:
    """Return the rupees that a request can cost at most, as exact text; None where its model is on no catalog.

    `hold_tokens` is the limit of an answer whose request gives none. Of several providers the dearest counts, as
    nobody knows yet which one will serve.
    """
    in_force = _in_force(rates, body.get("model"), at_ms)
    if not in_force:
        return None
    prompt = min(sum(_tokens(body.get(name)) for name in PROMPTS), MAX_TOKENS)
    answer = 0 if embeds else _answer_tokens(body, hold_tokens)
    return format_inr(max(_cost_nano(rate, prompt, answer) for rate in in_force))


def _in_force(rates: RateTable, model: object, at_ms: int) -> list[Rate]:
    providers = {rate.provider for rate in rates if rate.model == model}
    found = (rates.in_force(str(model), provider, at_ms) for provider in providers)
    return [rate for rate in found if rate is not None]


def _cost_nano(rate: Rate, prompt: int, answer: int) -> int:
    """Return the most that a request costs at a rate, by its dearest classes and tier."""
    tiers: list[Prices] = [rate, *(tier for tier in rate.tiers if tier.above_prompt_tokens < prompt)]
    return rate.request_nano + max(
        prompt * _dearest(prices, "prompt", prices.input_nano, prices.cached_nano)
        + answer * _dearest(prices, "completion", prices.output_nano)
        for prices in tiers
    )


def _dearest(prices: Prices, whole: str, *nano: int) -> int:
    others = zip(OTHER_CLASSES, prices.others_nano, strict=True)
    return max(*nano, *(other for each, other in others if each.whole == whole))


def _answer_tokens(body: Mapping[str, Any], hold_tokens: int) -> int:
    """Return the most tokens that the answer may have, all its choices together."""
    limit = next((count for name in LIMITS if (count := _count(body.get(name)))), hold_tokens)
    choices = max(_count(body.get("n")), _count(body.get("best_of")), 1)
    return min(limit * choices, MAX_TOKENS)


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _tokens(value: object) -> int:
    """Return a bound for the tokens of a part of the body: its texts, and what is made of their frame."""
    return sum(_tokens_of(each) for each in _leaves(value))


def _leaves(value: object) -> Iterator[object]:
    """Yield what has tokens: texts, numbers (of a prompt in tokens), frames, and parts that are no text."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            if part.get("type") in _OTHER_PARTS:
                yield part
                continue
            yield None
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list):
            waiting += part
        elif part is not None:
            yield part


def _tokens_of(leaf: object) -> int:
    if leaf is None:
        return MESSAGE_TOKENS
    if isinstance(leaf, str):
        return len(leaf.encode("utf-8", "replace"))
    return PART_TOKENS if isinstance(leaf, Mapping) else 1
