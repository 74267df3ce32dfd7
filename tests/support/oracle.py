"""A second set of books, as naive as can be: rupees as Decimal, the tz database, plain lists.

It shares nothing with the core but the events' form. Slow and obvious is the point.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

KOLKATA = ZoneInfo("Asia/Kolkata")
LATE, AHEAD = timedelta(days=35), timedelta(minutes=10)
Identity = tuple[str, str]


@dataclass
class Price:
    """Rupees per million tokens of a route from an instant on."""

    route: tuple[str, str]
    start: datetime
    input: Decimal
    cached: Decimal
    output: Decimal


@dataclass
class Oracle:
    """What should have been charged, credited and refused."""

    prices: list[Price]
    charged: dict[Identity, Decimal] = field(default_factory=dict)
    passed_on: dict[tuple[int, Identity], bool] = field(default_factory=dict)
    last_number: dict[tuple[int, str], int] = field(default_factory=dict)
    credits: dict[str, list[Decimal]] = field(default_factory=lambda: defaultdict(list))
    debits: dict[str, list[Decimal]] = field(default_factory=lambda: defaultdict(list))
    spent: dict[tuple[str, str, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    requests: dict[tuple[str, str, str], int] = field(default_factory=lambda: defaultdict(int))
    budgets: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    daily_limits: dict[tuple[str, str], int] = field(default_factory=dict)

    def read(  # noqa: PLR0911 - one line an outcome
        self, event: dict[str, Any], partition: int, owner: int, arrived: datetime, *, moved: bool
    ) -> str:
        """Return what becomes of an event, and book it: charged, duplicate, moved, or a reason."""
        at = datetime.fromisoformat(event["time"])
        identity, data = (event["source"], event["id"]), event["data"]
        if not moved and at < arrived - LATE:
            return "too_late"
        if not moved and at > arrived + AHEAD:
            return "from_the_future"
        usage = data.get("usage")
        failed = data["status"] >= 400
        if usage is None and not failed:
            return "invalid"
        number = int(event["sequence"]) if "sequence" in event and not moved else None
        by_number = number is not None and number <= self.last_number.get((partition, event["source"]), -1)
        if by_number or (owner == partition and identity in self.charged):
            return "duplicate"
        if (partition, identity) in self.passed_on:
            return "duplicate"
        if owner != partition:
            self.passed_on[partition, identity] = True
            self._count(number, partition, event["source"])
            return "moved"
        cost = Decimal(0)
        if not (failed or data["byok"] or data["tier"] == "trial"):
            price = self.price((data["model"], data["provider"]), at)
            if price is None:
                return "unpriced"
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            # What the total has beyond the prompt is output, wherever the provider counted the reasoning.
            output = usage.get("total_tokens", usage["prompt_tokens"] + usage["completion_tokens"])
            output -= usage["prompt_tokens"]
            cost = (
                (usage["prompt_tokens"] - cached) * price.input
                + cached * price.cached
                + output * price.output
            ) / 1_000_000
        self._count(number, partition, event["source"])
        self._book(event, identity, at, cost)
        return "charged"

    def price(self, route: tuple[str, str], at: datetime) -> Price | None:
        """Return the route's price in force at an instant."""
        started = [price for price in self.prices if price.route == route and price.start <= at]
        return max(started, key=lambda price: price.start, default=None)

    def balance(self, org: str) -> Decimal:
        """Return credits less debits, in rupees."""
        return sum(self.credits[org], Decimal(0)) - sum(self.debits[org], Decimal(0))

    def refused(self, org: str, at: datetime) -> set[tuple[str, str]]:
        """Return the (key, code) that gateways must refuse at an instant."""
        month, day = at.astimezone(KOLKATA).strftime("%Y%m"), at.astimezone(KOLKATA).strftime("%Y%m%d")
        budgets = {
            (key, "budget_exceeded")
            for (owner, key), budget in self.budgets.items()
            if owner == org and self.spent[org, key, month] >= budget
        }
        limits = {
            (key, "daily_limit_reached")
            for (owner, key), limit in self.daily_limits.items()
            if owner == org and self.requests[org, key, day] >= limit
        }
        return budgets | limits

    def _count(self, number: int | None, partition: int, source: str) -> None:
        if number is not None:
            self.last_number[partition, source] = number

    def _book(self, event: dict[str, Any], identity: Identity, at: datetime, cost: Decimal) -> None:
        org, key, local = event["subject"], event["data"]["key_id"], at.astimezone(KOLKATA)
        self.charged[identity] = cost
        self.debits[org].append(cost)
        self.spent[org, key, local.strftime("%Y%m")] += cost
        self.requests[org, key, local.strftime("%Y%m%d")] += 1
