"""Run seeds, one or many, and tell what came of them.

Called by: `__main__.py` and the tests. Next: `world.py` runs, `compare.py` judges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Any
from unittest.mock import patch

from pipeline.posting import duplicates
from tests.simulation import compare, mutants
from tests.simulation.faults import SMALL_RING, Plan, plan
from tests.simulation.stored import Difference
from tests.simulation.world import World


@dataclass(frozen=True)
class Result:
    """What came of a seed."""

    seed: int
    digest: str
    counts: Counter[str]
    differences: list[Difference] = field(default_factory=list)
    trace: tuple[str, ...] = ()

    @property
    def checks(self) -> set[str]:
        """The names of the checks that found a difference."""
        return {check for check, _ in self.differences}


def run(
    seed: int,
    events: int,
    mutant: str | None = None,
    alike: str | None = None,
    conditions: Mapping[str, Any] | None = None,
) -> Result:
    """Run one seed, with a planted mistake where one is named; `alike` names one not to plant.

    Either way the seed's plan is the one that goes with the mistake, but for the `conditions` that are given.
    """
    named = mutant or alike
    with ExitStack() as stack:
        rules = stack.enter_context(mutants.planted(mutant))
        of_mistake = mutants.MUTANTS[named].conditions if named else {}
        chosen = plan(seed, events, rules, {**of_mistake, **(conditions or {})})
        stack.enter_context(_ring(chosen))
        world = World(chosen)
        world.run()
        found = compare.differences(world)
    return Result(seed, world.digest, _counts(world), found, tuple(world.trace))


def run_many(seeds: Sequence[int], events: int, mutant: str | None = None, jobs: int = 1) -> Iterator[Result]:
    """Run seeds on some processes and yield what came of each, in their order."""
    run_one = partial(run, events=events, mutant=mutant)
    if jobs == 1 or len(seeds) == 1:
        yield from map(run_one, seeds)
        return
    # Fresh processes: whoever calls may have threads, which do not survive a fork.
    with ProcessPoolExecutor(min(jobs, len(seeds)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_one, seeds, chunksize=4)


def _counts(world: World) -> Counter[str]:
    counts = world.counts + world.broker.counts + world.store.counts + world.clock.counts
    counts += world.truth.counts + world.mail_server.counts
    for transaction in world.broker.decided:
        counts.update(transaction.note)
    counts["seeds"] = 1
    counts["events accepted"] = world.truth.accepted
    counts["units committed"] = sum(
        t.producer.transactional_id.startswith("worker") for t in world.broker.decided
    )
    return counts


@contextmanager
def _ring(chosen: Plan) -> Iterator[None]:
    """Make the duplicate check's memory as small as the seed wants it, so that it wraps within a run.

    Where marks are few, nearly no numbers are kept: letters have to be known by their marks.
    """
    chunk, slots = chosen.ring
    chunk_numbers, number_slots = duplicates.CHUNK_NUMBERS, duplicates.NUMBER_SLOTS
    if chosen.ring == SMALL_RING:
        chunk_numbers = number_slots = 2
    with (
        patch.object(duplicates, "CHUNK_MARKS", chunk),
        patch.object(duplicates, "SLOTS", slots),
        patch.object(duplicates, "CHUNK_NUMBERS", chunk_numbers),
        patch.object(duplicates, "NUMBER_SLOTS", number_slots),
    ):
        yield
