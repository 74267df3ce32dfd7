"""What a request costs: tokens times the rate of the route that served it.

Owns: the formula, and which requests are free.
Called by: `posting/requests.py`. Next: `accounts/ledger.py` takes the cost off the balance.
"""

from __future__ import annotations

from pipeline.catalog.rates import Rate
from pipeline.events import RequestData

FAILED_FROM = 400


def is_free(data: RequestData) -> bool:
    """Whether a request costs nothing: a trial key, the org's own provider key, or a failed request."""
    return data.byok or data.status >= FAILED_FROM or data.tier == "trial"


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
