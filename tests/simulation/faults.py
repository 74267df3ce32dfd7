"""Which faults a seed has, and how often: every seed draws its own mixture.

Owns: the plan of a run. Called by: `world.py` and the models.

A mixture that differs by seed finds more than one that is the same for all: some mistakes only show
where one fault is frequent and the others are rare.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.sink import ranges
from pipeline.sink.partition import LINGER_S


@dataclass(frozen=True)
class Rules:
    """How the models around the protocols behave. The defaults are right; a mutant changes one or a few."""

    fencing: bool = True
    start: str = "state"
    """Where reading starts: at the offsets in the `state`, or at those of the `group`."""
    group_offsets: str = "after"
    """When the group's offsets are written: `after` the effect or `before` it."""
    restore_end: str = "after fencing"
    """When the end of the state topic is asked for; or `before fencing`, or `short` of the end."""
    read_committed: bool = True
    after_unclear: str = "end"
    """What a process does after an unclear commit: `end`, or write it all `again`."""
    unclear_insert_is_done: bool = False
    views_deduplicated: bool = True
    unclear_mail_is_not_taken: bool = False
    progress_told_between_units: bool = True


@dataclass(frozen=True)
class Plan:
    """What one seed does. Chances are per step, so the frequent ones are small numbers too."""

    seed: int
    events: int
    partitions: int
    workers: int
    sinks: int
    mailers: int
    orgs: int
    crash: float
    freeze: float
    lost_answer: float
    insert_lost: float
    insert_refused: float
    insert_half: float
    insert_late: float
    insert_torn: float
    """How often the server is killed between the token of a block and the block."""
    mail_not_taken: float
    rebalance: float
    reset_offsets: float
    compact: float
    slow_markers: float
    transactional: float
    """How often a producer of requests writes within a transaction. Of those, a third is aborted at first."""
    astray: bool
    ring: tuple[int, int]
    """Marks a chunk and slots of the duplicate check's ring."""
    window: int
    """How many blocks a table remembers."""
    range_max: int
    """How many journal records a sink takes at most at a time."""
    linger_ms: int
    read_max: int
    restore_max: int
    jump: float
    expire: float
    """How soon a silent member is taken for dead."""
    embedded: bool = False
    """Whether the engine is in the process of the one sink there is, and ends with it."""
    power_cut: float = 0.0
    """How often the end of such a process is a power cut, which takes the tokens noted last and leaves the rows."""
    upgraded_after: int = 0
    """So many times a sink takes a partition over before there is a roll-up by day of posting, as an upgrade makes it."""
    unpriced: float = 0.0
    """How many requests go to the route that has no rate at first, beside the few that do so in every seed."""
    rules: Rules = field(default_factory=Rules)

    @property
    def safe_ms(self) -> int:
        """For how long a token is surely remembered."""
        return ranges.safe_age_ms(self.window, self.partitions * 1000 / self.linger_ms)

    def crash_at(self, step: str) -> float:
        """Return the chance that a process which has reached a step ends there."""
        return min(RARE_CRASH_MAX, self.crash * RARE_CRASH) if step in RARE_STEPS else self.crash


RARE_STEPS = frozenset({"sink.adopting", "sink.staging", "sink.putting back", "sink.completing roll-ups"})
"""A process comes to these once, or after a rare fault only."""
RARE_CRASH, RARE_CRASH_MAX = 8, 0.5
"""How many times as often one ends at a rare step, so that a hundred seeds are enough to see that too; and at most."""
SMALL_RING = (8, 40)
LARGE_RING = (512, 392)
TINY_WINDOW = 8
"""So small that a sink cannot even pause before it tries again: for seeds in which every insert is answered."""
SMALL_WINDOW = 24
LARGE_WINDOW = 100_000


def plan(
    seed: int, events: int, rules: Rules | None = None, conditions: Mapping[str, Any] | None = None
) -> Plan:
    """Return the plan of a seed: the same for ever. `conditions` are fields that are not left to chance."""
    rng = random.Random(f"plan {seed}")
    small_ring = rng.random() < 0.3
    halves = random.Random(f"halves {seed}").choice((0.0, 0.05, 0.2))
    # Where tokens are soon forgotten, nothing may arrive late: a sink waits for that to be over before it completes
    # an old range, but the model's clock does not move while it does.
    window = rng.choice((TINY_WINDOW, SMALL_WINDOW)) if rng.random() < 0.3 else LARGE_WINDOW
    small_window = window != LARGE_WINDOW
    drawn = Plan(
        seed=seed,
        events=events,
        partitions=rng.choice((1, 2, 3, 4)),
        workers=rng.choice((1, 2, 2, 3)),
        sinks=2 if small_window else rng.choice((1, 2)),
        orgs=rng.choice((3, 8, 20, 40)),
        crash=rng.choice((0.02, 0.04, 0.08, 0.12)),
        freeze=rng.choice((0.0, 0.002, 0.01)),
        lost_answer=rng.choice((0.0, 0.01, 0.05)),
        insert_lost=0.0 if window == TINY_WINDOW else rng.choice((0.0, 0.05, 0.2)),
        insert_refused=0.0 if window == TINY_WINDOW else rng.choice((0.0, 0.05, 0.2)),
        insert_half=rng.choice((0.0, 0.05, 0.2)) if not small_window else halves * (window == SMALL_WINDOW),
        insert_late=0.0 if small_window else rng.choice((0.0, 0.05, 0.2)),
        rebalance=rng.choice((0.0, 0.02, 0.1)),
        reset_offsets=rng.choice((0.0, 0.1)),
        compact=rng.choice((0.0, 0.3, 0.7)),
        slow_markers=rng.choice((0.0, 0.3, 0.8)),
        astray=not small_ring and rng.random() < 0.7,
        ring=SMALL_RING if small_ring else LARGE_RING,
        window=window,
        range_max=2 if small_window else rng.choice((3, 12)),
        linger_ms=2_000 if small_window else int(LINGER_S * 1000),
        read_max=rng.choice((2, 6, 20)),
        restore_max=rng.choice((30, 200, 1000)),
        jump=rng.choice((0.0, 0.003, 0.02)),
        expire=rng.choice((0.3, 0.3, 0.04)),
        insert_torn=0.0 if small_window else rng.choice((0.0, 0.05, 0.15)),
        mailers=rng.choice((1, 2)),
        mail_not_taken=rng.choice((0.0, 0.3)),
        transactional=rng.choice((0.0, 0.2, 0.6)),
        rules=rules or Rules(),
    )
    upgraded = {"upgraded_after": random.Random(f"upgrade {seed}").choice((0, 2, 6, 20))}
    return replace(drawn, **{**_of_some(seed, window), **upgraded, **(conditions or {})})


def _of_some(seed: int, window: int) -> dict[str, Any]:
    """Return what is otherwise of the seeds with an embedded engine, and of those in which servers are often killed."""
    rng = random.Random(f"embedded {seed}")
    kind = rng.random()
    if window != LARGE_WINDOW:
        return {}
    if kind < 0.15:
        return BLOCKS_LOST
    return EMBEDDED | {"power_cut": rng.choice((0.2, 0.8))} if kind >= 0.75 else {}


EMBEDDED: dict[str, Any] = {"embedded": True, "sinks": 1, "insert_late": 0.0, "insert_torn": 0.0}
"""What is so of an embedded engine: one process writes to it, over no network, and nobody kills it beside its sink."""
BLOCKS_LOST: dict[str, Any] = {"insert_torn": 0.5, "insert_late": 0.0, "crash": 0.08}
"""What is so where servers are often killed in the middle of an insert: sinks end while they put back what that lost."""
