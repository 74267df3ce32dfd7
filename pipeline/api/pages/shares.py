"""The most used models as bars: what each has of all tokens. Pure.

Called by: `api/routes/public.py`. Next: `api/templates/public_parts.html`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.rupee_text import grouped_count

_PERMILLE = 1000


class ModelShare(NamedTuple):
    """A model's place and share. `length` is its bar's, in percent of the longest one's."""

    place: int
    model: str
    requests: int
    tokens: int
    requests_shown: str
    tokens_shown: str
    share: str
    length: str


def model_shares(ranked: Sequence[tuple[str, int, int]], most: int | None = None) -> list[ModelShare]:
    """Return the first `most` of the models (model, requests, tokens), most tokens first, with their shares of all."""
    total = sum(tokens for _, _, tokens in ranked)
    longest = max((tokens for _, _, tokens in ranked), default=0)
    return [
        ModelShare(
            place,
            model,
            requests,
            tokens,
            grouped_count(requests),
            grouped_count(tokens),
            _percent(tokens, total),
            _tenths(tokens * _PERMILLE // longest) if longest else "0.0",
        )
        for place, (model, requests, tokens) in enumerate(ranked[:most], 1)
    ]


def _percent(part: int, whole: int) -> str:
    """Return a share as 12.3 %, rounded to the nearest tenth; what is not nothing is never written as nothing."""
    permille = (2 * part * _PERMILLE + whole) // (2 * whole) if whole else 0
    return "< 0.1 %" if part and not permille else f"{_tenths(permille)} %"


def _tenths(permille: int) -> str:
    return f"{permille // 10}.{permille % 10}"
