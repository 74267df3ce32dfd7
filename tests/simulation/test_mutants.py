"""The simulation sees: each known mistake is caught, by a check that ought to see it, and none without it."""

from __future__ import annotations

import pytest

from tests.simulation import runs
from tests.simulation.compare import CHECKS
from tests.simulation.mutants import MUTANTS

SEEDS = range(50, 150)
UNUSED = None
EVENTS = 1_200


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_planted_mistake_is_caught_and_nothing_without_it(name: str) -> None:
    mutant = MUTANTS[name]
    assert mutant.caught_by <= set(CHECKS)
    seen: set[str] = set()
    for seed in SEEDS:
        clean = runs.run(seed, EVENTS, alike=name)
        assert not clean.differences, f"seed {seed} without the mistake: {clean.differences[:3]}"
        caught = runs.run(seed, EVENTS, name).checks
        seen |= caught
        if caught & mutant.caught_by:
            return
    pytest.fail(f"{mutant.what}: seen by {sorted(seen) or 'nobody'}, not by {sorted(mutant.caught_by)}")
