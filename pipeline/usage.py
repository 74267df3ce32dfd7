"""The usage object of a request, and the rule that turns it into the tokens that are charged. Pure.

Owns: the OpenAI usage object as it comes on the wire, the classes of tokens, and what becomes of counts
that contradict each other.
Called by: `events.py` decodes the object; `posting/requests.py` counts it; `catalog/` prices the classes.

To add a class of tokens: here, its field in a details object, a line in `OTHER_CLASSES`, and its field among
those that `counts_of` looks at (a test finds it missing); then a column in a migration, and prices in the catalog.

Providers count differently, and a request that was served is charged however they do. The rule:

- `prompt_tokens` and `completion_tokens` decide. No class is ever more than what is left of the count that it is
  part of, cached tokens first, then cache writes, then audio.
- The total says what was counted beside. Where it is prompt + completion + reasoning, the reasoning is charged as
  output too. Where it is prompt + completion + cached + cache writes, those are charged beside the prompt.
- Each request whose counts had to be cut, or whose total is not prompt + completion, is marked.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

MAX_TOKENS = 100_000_000

Tokens = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
TotalTokens = Annotated[int, Meta(ge=0, le=4 * MAX_TOKENS)]
"""Prompt and completion, and what may have been counted beside each."""
NoDetails = tuple[()]
"""The empty list by which some servers say that there is nothing to tell."""


class PromptDetails(Struct, gc=False, omit_defaults=True):
    """OpenAI's `prompt_tokens_details`; all of them are part of `prompt_tokens`."""

    cached_tokens: Tokens | None = None
    cache_write_tokens: Tokens | None = None
    audio_tokens: Tokens | None = None


class CompletionDetails(Struct, gc=False, omit_defaults=True):
    """OpenAI's `completion_tokens_details`; all of them are part of `completion_tokens`."""

    reasoning_tokens: Tokens | None = None
    audio_tokens: Tokens | None = None


class Usage(Struct, gc=False, omit_defaults=True):
    """OpenAI's usage object, in tokens."""

    prompt_tokens: Tokens
    completion_tokens: Tokens | None = None
    total_tokens: TotalTokens | None = None
    prompt_tokens_details: PromptDetails | NoDetails | None = None
    completion_tokens_details: CompletionDetails | NoDetails | None = None


Whole = Literal["prompt", "completion"]


class TokenClass(Struct, frozen=True):
    """A class of tokens with a price of its own.

    `name` is what the catalog and cost lines call it, `column` what rows and answers do. It is part of the prompt
    or of the completion, and `field` of that one's details object has its count. Where a catalog gives it no
    price, it costs what the other tokens of its whole do.
    """

    name: str
    column: str
    whole: Whole
    field: str


OTHER_CLASSES = (
    TokenClass("cache_write", "cache_write_tokens", "prompt", "cache_write_tokens"),
    TokenClass("audio_input", "audio_input_tokens", "prompt", "audio_tokens"),
    TokenClass("audio_output", "audio_output_tokens", "completion", "audio_tokens"),
)
"""The classes that few requests have, beside input, cached input and output, which nearly all have.

Within its whole a class comes before those that are cut rather than it.
"""
CLASSES = (
    "input",
    "cached_input",
    *(each.name for each in OTHER_CLASSES if each.whole == "prompt"),
    "output",
    *(each.name for each in OTHER_CLASSES if each.whole == "completion"),
)
"""The names of all classes that have a price, those of the prompt first."""
WRITTEN = 0
"""The place of cache writes in `OTHER_CLASSES`: the total may say that they were counted beside the prompt."""

Others = tuple[int, ...]
"""The tokens of each of `OTHER_CLASSES`, in its order."""
NO_OTHERS: Others = (0,) * len(OTHER_CLASSES)

REGULAR = 0
CONTRADICTORY = 1
"""The counts contradict each other, and were cut to what they are part of."""
REASONING_BESIDE = 2
"""The reasoning was counted beside the completion."""
CACHE_BESIDE = 3
"""Cached tokens and cache writes were counted beside the prompt."""

Counts = tuple[int, int, int, int, Others, int]
"""What is charged: (prompt, cached, completion, reasoning, others, irregular).

`prompt` and `completion` are as they were given; the rest is never more than the rule allows. With the mark they
say all that a cost depends on, so a row keeps just these.
"""
NOTHING: Counts = (0, 0, 0, 0, NO_OTHERS, REGULAR)

UNREADABLE = Usage(prompt_tokens=0, total_tokens=1)
"""Stands for the usage of a failed request that is none: it contradicts itself, so it counts as 0 tokens, marked."""


def counts_of(usage: Usage, *, failed: bool) -> Counts:
    """Return what is charged of a usage object; nothing of a failed request whose counts contradict each other."""
    prompt, completion, total = usage.prompt_tokens, usage.completion_tokens or 0, usage.total_tokens
    of_prompt, of_completion = usage.prompt_tokens_details, usage.completion_tokens_details
    cached = reasoning = 0
    if of_prompt:
        if of_prompt.cache_write_tokens or of_prompt.audio_tokens:
            return _carefully(usage, failed=failed)
        cached = of_prompt.cached_tokens or 0
    if of_completion:
        if of_completion.audio_tokens:
            return _carefully(usage, failed=failed)
        reasoning = of_completion.reasoning_tokens or 0
    if cached > prompt or reasoning > completion or (total is not None and total != prompt + completion):
        return _carefully(usage, failed=failed)
    return prompt, cached, completion, reasoning, NO_OTHERS, REGULAR


def _carefully(usage: Usage, *, failed: bool) -> Counts:
    """Return what `counts_of` does: the whole rule, for the few objects of which some part is unusual."""
    prompt, completion = usage.prompt_tokens, usage.completion_tokens or 0
    of_prompt = usage.prompt_tokens_details or PromptDetails()
    of_completion = usage.completion_tokens_details or CompletionDetails()
    details: dict[Whole, Struct] = {"prompt": of_prompt, "completion": of_completion}
    cached_told, reasoning_told = of_prompt.cached_tokens or 0, of_completion.reasoning_tokens or 0
    others_told = tuple(getattr(details[each.whole], each.field) or 0 for each in OTHER_CLASSES)
    irregular = _beside(usage, cached_told + others_told[WRITTEN], reasoning_told)

    left: dict[Whole, int] = {"prompt": prompt, "completion": completion}

    def part(count: int, whole: Whole) -> int:
        taken = min(count, left[whole])
        left[whole] -= taken
        return taken

    cached = cached_told if irregular == CACHE_BESIDE else part(cached_told, "prompt")
    others = tuple(
        count if irregular == CACHE_BESIDE and place == WRITTEN else part(count, each.whole)
        for place, (each, count) in enumerate(zip(OTHER_CLASSES, others_told, strict=True))
    )
    reasoning = reasoning_told if irregular == REASONING_BESIDE else min(reasoning_told, completion)
    if irregular == REGULAR and (cached, reasoning, others) != (cached_told, reasoning_told, others_told):
        irregular = CONTRADICTORY
    if failed and irregular:
        return (0, 0, 0, 0, NO_OTHERS, CONTRADICTORY)
    return prompt, cached, completion, reasoning, others if any(others) else NO_OTHERS, irregular


def _beside(usage: Usage, cache: int, reasoning: int) -> int:
    """Return the mark that the total alone calls for.

    Where it fits both ways, `cache` and `reasoning` are equal; then what does not fit into its whole was beside it.
    """
    prompt, completion, total = usage.prompt_tokens, usage.completion_tokens or 0, usage.total_tokens
    if total is None or total == prompt + completion:
        return REGULAR
    beside = total - prompt - completion
    if beside == reasoning and (beside != cache or reasoning > completion or cache <= prompt):
        return REASONING_BESIDE
    return CACHE_BESIDE if beside == cache else CONTRADICTORY


def quantities_of(counts: Counts) -> dict[str, int]:
    """Return the tokens charged of each class by name, those of 0 too; they add up to what was counted."""
    prompt, cached, completion, reasoning, others, irregular = counts
    part = {"prompt": 0 if irregular == CACHE_BESIDE else cached, "completion": 0}
    for place, (each, count) in enumerate(zip(OTHER_CLASSES, others, strict=True)):
        if not (irregular == CACHE_BESIDE and place == WRITTEN):
            part[each.whole] += count
    of = {each.name: count for each, count in zip(OTHER_CLASSES, others, strict=True)}
    beside = reasoning if irregular == REASONING_BESIDE else 0
    charged = {
        "input": prompt - part["prompt"],
        "cached_input": cached,
        "output": completion - part["completion"] + beside,
        **of,
    }
    return {name: charged[name] for name in CLASSES}
