"""The simulation sees: each known mistake is caught, by a check that ought to see it, and none without it."""

from __future__ import annotations

import pytest

from tests.simulation import runs
from tests.simulation.compare import CHECKS
from tests.simulation.mutants import MUTANTS

SEEDS = range(60)
EVENTS = 1_200


def test_without_a_mistake_the_same_seeds_are_clean() -> None:
    failed = [result for result in runs.run_many(SEEDS, EVENTS) if result.differences]
    assert not failed, [(result.seed, result.differences[:3]) for result in failed]


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_planted_mistake_is_caught(name: str) -> None:
    mutant = MUTANTS[name]
    assert mutant.caught_by <= set(CHECKS)
    seen: set[str] = set()
    for result in runs.run_many(SEEDS, EVENTS, name):
        seen |= result.checks
        if result.checks & mutant.caught_by:
            return
    pytest.fail(f"{mutant.what}: seen by {sorted(seen) or 'nobody'}, not by {sorted(mutant.caught_by)}")
