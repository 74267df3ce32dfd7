"""What a request costs: tokens times the rate of the route that served it.

Owns: the formula, and which requests are free.
Called by: `posting/requests.py`, `gateway/sending/prepare.py`, `operations/audit.py`. Next: `accounts/ledger.py` takes the cost off the balance.
"""

from __future__ import annotations

from typing import Protocol

from pipeline.catalog.rates import Rate
from pipeline.events import FAILED_FROM


class Request(Protocol):
    """What decides whether a request is free: of an event's data and of a row of the journal alike."""

    @property
    def byok(self) -> bool:
        """Whether it was served with the org's own key at the provider."""

    @property
    def status(self) -> int:
        """Its HTTP status."""

    @property
    def tier(self) -> str:
        """`standard` or `trial`."""


def is_free(request: Request) -> bool:
    """Whether a request costs nothing: a trial key, the org's own provider key, or a failed request."""
    return request.byok or request.status >= FAILED_FROM or request.tier == "trial"


def cost_nano(rate: Rate, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> int:
    """Return what a served request costs, in nano-rupees, exactly.

    Cached tokens are part of the prompt's and have a rate of their own; reasoning tokens are part of
    the completion's, so they do not appear here.
    """
    return (
        (prompt_tokens - cached_tokens) * rate.input_nano
        + cached_tokens * rate.cached_nano
        + completion_tokens * rate.output_nano
    )
