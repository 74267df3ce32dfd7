"""The simulation sees: each known mistake is caught, by a check that ought to see it, and none without it."""

from __future__ import annotations

import pytest

from tests.simulation import runs
from tests.simulation.compare import CHECKS
from tests.simulation.mutants import MUTANTS

SEEDS = range(50, 150)
FIRST = {
    "commit_again": 54,
    "end_before_fencing": 55,
    "found_range_not_judged": 64,
    "lost_rows_not_put_back": 64,
    "old_range_not_completed": 53,
    "progress_not_told": 54,
    "refused_mail_not_kept": 53,
    "start_at_group_offset": 54,
    "sweep_by_any_time": 54,
    "unclear_insert_is_done": 65,
    "unclear_mail_sent_again": 54,
    "views_not_deduplicated": 86,
}
"""A seed that has caught it before is tried first, to save time. Where it does not any more, the others are tried."""
EVENTS = 1_200


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_planted_mistake_is_caught_and_nothing_without_it(name: str) -> None:
    mutant = MUTANTS[name]
    assert mutant.caught_by <= set(CHECKS)
    seen: set[str] = set()
    for seed in (FIRST.get(name, SEEDS.start), *SEEDS):
        clean = runs.run(seed, EVENTS, alike=name)
        assert not clean.differences, f"seed {seed} without the mistake: {clean.differences[:3]}"
        caught = runs.run(seed, EVENTS, name).checks
        seen |= caught
        if caught & mutant.caught_by:
            return
    pytest.fail(f"{mutant.what}: seen by {sorted(seen) or 'nobody'}, not by {sorted(mutant.caught_by)}")
