"""Credits and budgets: nobody is below zero after the history, one runs dry soon, one key is stopped soon."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import islice
from unittest.mock import patch

import pytest

from pipeline import ist
from pipeline.catalog.rating import cost_nano
from pipeline.demo import traffic
from pipeline.demo.figures import BUDGET_AFTER_S, DRY_AFTER_S, SIGNUP_NANO, Figures, figures
from pipeline.demo.marker import Marker
from pipeline.demo.platform import AGENCY, ORGS, STARTUP
from pipeline.demo.seeding import catalog, commands_of, table_of
from pipeline.demo.traffic import history, live, served_by
from pipeline.money import NANO_PER_RUPEE
from pipeline.posting.unit import UnitOutput
from tests.support.builders import NOW_MS, Books, packed

NOON_MS = NOW_MS + 12 * 3_600_000
"""Noon of 13 June in IST."""
DAYS = 13
"""Of the history: all of the month that budgets count. The rest of its thirty days is the same to the core."""
RATES = table_of(catalog(NOON_MS))


def put_in(books: Books, rate: float) -> tuple[Figures, list[UnitOutput]]:
    """Have the product's own core post the whole platform."""
    with patch.object(traffic, "DAYS", DAYS):
        batches = list(history(1, NOON_MS, RATES))
    wanted = figures(batches, 1, rate, NOON_MS, RATES)
    secrets = {key.key_id: f"br-{key.key_id}" for org in ORGS for key in org.keys}
    marker = Marker(run="run", seed=1, rate=rate, now_ms=NOON_MS, api_keys=secrets)
    for org in ORGS:
        books.send(*commands_of(org, marker, wanted), at_ms=NOON_MS)
    return wanted, [books.publish(packed(*batch.events), at_ms=NOON_MS) for batch in batches]


@cache
def platform(rate: float) -> tuple[Figures, Books, list[UnitOutput]]:
    """Return the figures, and the books with the whole platform in them."""
    books = Books(rates=RATES)
    wanted, outcomes = put_in(books, rate)
    return wanted, books, outcomes


def live_costs(rate: float, seconds: float) -> Counter[str]:
    """Return what the first live requests cost by key, counted on their own."""
    spent = Counter[str]()
    for each in islice(live(1), int(rate * seconds)):
        call = each.call
        if call.key.byok or call.key.tier == "trial" or call.simulate in ("429", "500", "timeout"):
            continue
        found = RATES.in_force(call.model, served_by(call, RATES, NOON_MS), NOON_MS)
        assert found is not None
        cached = call.prompt_tokens // 2 if call.is_cached else 0
        spent[call.key.key_id] += cost_nano(found, call.prompt_tokens, cached, call.completion_tokens)
    return spent


@pytest.mark.parametrize("rate", [0.0, 5.0])
def test_the_core_charges_what_the_figures_say(rate: float) -> None:
    wanted, books, outcomes = platform(rate)
    assert [letter for outcome in outcomes for letter in outcome.dead_letters] == []
    for org in ORGS:
        assert books.balance_nano(org.org) > 0, org
    dry_nano = books.balance_nano(AGENCY.org)
    soon_nano = sum(
        cost for key_id, cost in live_costs(rate, DRY_AFTER_S).items() if key_id.startswith("key_kolam")
    )
    assert soon_nano <= dry_nano <= soon_nano + NANO_PER_RUPEE
    assert books.balance_nano(STARTUP.org) > 20 * dry_nano

    ((key_id, budget_nano),) = wanted.budgets_nano.items()
    usage = books.state.account(STARTUP.org).spending.keys[key_id]
    left_nano = budget_nano - usage.months[ist.month_of(NOON_MS)]
    soon_nano = live_costs(rate, BUDGET_AFTER_S)[key_id]
    assert soon_nano <= left_nano <= soon_nano + NANO_PER_RUPEE // 10


def test_doing_it_all_again_changes_nothing() -> None:
    _, books, _ = platform(5.0)
    before = {org.org: books.balance_nano(org.org) for org in ORGS}
    assert sum(before.values()) > SIGNUP_NANO
    put_in(books, 5.0)
    assert before == {org.org: books.balance_nano(org.org) for org in ORGS}
