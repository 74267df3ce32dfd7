"""What the demo's traffic costs, and so which credits and budgets make the demo tell its story. Pure.

Owns: the operator's credits, so that nobody is deep below zero; when an org runs dry and a key reaches its
budget once traffic is live.
Called by: `demo/seeding.py`. The formula of a cost is `catalog/rating.py`'s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from itertools import islice

from msgspec import Struct

from pipeline import ist
from pipeline.catalog.rates import RateTable
from pipeline.catalog.rating import cost_nano
from pipeline.demo.platform import ORGS, DemoOrg
from pipeline.demo.traffic import Call, TrafficBatch, live, served_by
from pipeline.money import NANO_PER_RUPEE
from pipeline.standin.completion import CACHED_SHARE

SIGNUP_NANO = 100 * NANO_PER_RUPEE
BUDGET_AFTER_S = 45
DRY_AFTER_S = 90
_CREDIT_STEP_NANO = 500 * NANO_PER_RUPEE
_BUDGET_STEP_NANO = NANO_PER_RUPEE // 10
_LIVE_CALLS_MAX = 200_000


class Credits(Struct, frozen=True):
    """A credit of the operator's, in nano-rupees, with what the ledger says of it."""

    amount_nano: int
    reason: str


class Figures(Struct, frozen=True):
    """Each org's credits, and the monthly budget of each key that has one, in nano-rupees."""

    credits: dict[str, tuple[Credits, ...]]
    budgets_nano: dict[str, int]


def figures(
    batches: Iterable[TrafficBatch], seed: int, rate: float, now_ms: int, rates: RateTable
) -> Figures:
    """Return the credits and budgets for a history, and for live traffic of `rate` requests a second."""
    spent: dict[str, int] = defaultdict(int)
    spent_this_month: dict[str, int] = defaultdict(int)
    month_start_ms = ist.month_start_ms(ist.month_of(now_ms))
    for batch in batches:
        for event in batch.events:
            cost = cost_of_event(event["data"], event["time"], rates)
            spent[batch.org] += cost[0]
            if cost[1] >= month_start_ms:
                spent_this_month[event["data"]["key_id"]] += cost[0]
    calls = [each.call for each in islice(live(seed), min(int(rate * DRY_AFTER_S), _LIVE_CALLS_MAX))]
    until_budget = calls[: int(rate * BUDGET_AFTER_S)]
    given = {}
    budgets_nano = {}
    for org in ORGS:
        soon = sum(_cost_of_call(call, now_ms, rates) for call in calls if call.org == org.org)
        given[org.org] = _credits(org, spent[org.org], soon)
        for key in org.keys:
            if key.budgeted:
                more = sum(
                    _cost_of_call(c, now_ms, rates) for c in until_budget if c.key.key_id == key.key_id
                )
                budgets_nano[key.key_id] = _above(spent_this_month[key.key_id] + more, _BUDGET_STEP_NANO)
    return Figures(given, budgets_nano)


def _credits(org: DemoOrg, spent_nano: int, soon_nano: int) -> tuple[Credits, ...]:
    """Return two credits or none: for an org that runs dry they leave no more than what comes soon."""
    if org.runs_dry:
        wanted = _above(spent_nano + soon_nano - SIGNUP_NANO, NANO_PER_RUPEE)
    else:
        if spent_nano < SIGNUP_NANO // 2:
            # It spends next to nothing and lives on its signup credit.
            return ()
        wanted = _above(spent_nano, _CREDIT_STEP_NANO) + 4 * _CREDIT_STEP_NANO
    first = wanted // NANO_PER_RUPEE * 3 // 5 * NANO_PER_RUPEE
    parts = (
        Credits(first, "bank transfer on the yearly agreement, first part"),
        Credits(wanted - first, "bank transfer on the yearly agreement, second part"),
    )
    return tuple(part for part in parts if part.amount_nano)


def cost_of_event(data: dict[str, object], time: str, rates: RateTable) -> tuple[int, int]:
    """Return what an event of the past costs in nano-rupees, and when it was in milliseconds."""
    at_ms = ist.ms_of(datetime.fromisoformat(time))
    usage = data["usage"]
    if data["byok"] or data["tier"] == "trial" or not isinstance(usage, dict):
        return 0, at_ms
    rate = rates.in_force(str(data["model"]), str(data["provider"]), at_ms)
    assert rate is not None
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return cost_nano(rate, usage["prompt_tokens"], cached, usage["completion_tokens"]), at_ms


def _cost_of_call(call: Call, at_ms: int, rates: RateTable) -> int:
    if call.key.byok or call.key.tier == "trial" or call.simulate not in (None, "fallback"):
        return 0
    rate = rates.in_force(call.model, served_by(call, rates, at_ms), at_ms)
    assert rate is not None
    cached = call.prompt_tokens // CACHED_SHARE if call.is_cached else 0
    return cost_nano(rate, call.prompt_tokens, cached, call.completion_tokens)


def _above(amount_nano: int, step_nano: int) -> int:
    """Return an amount rounded up to whole steps, one at least."""
    return max(-(-amount_nano // step_nano), 1) * step_nano
