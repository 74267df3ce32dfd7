"""A broker that is slow: who is told, and that no worker ends for it."""

from __future__ import annotations

import time

from tests.support.runbooks.starved import starving
from tests.support.runbooks.walk import Walk

UNIT_S, UNIT_S_MAX, COMMIT_S = 3.0, 6.0, 1.3
"""What units and transactions are to take at p99. After 10 s without progress a worker ends itself."""


def p99_s(walk: Walk, histogram: str) -> float:
    """Return the 99th percentile of a histogram of these seconds, or 0 where it has nothing new."""
    asked = f"histogram_quantile(0.99, sum by (le) (rate({histogram}_bucket[15s])))"
    return walk.shown(asked)


def test_a_broker_that_is_slow(walk: Walk) -> None:
    units, commits = "MeteringUnitsSlow", "MeteringCommitsSlow"
    walk.quiet(units, commits)
    left, deadline = {units, commits}, time.monotonic() + 240
    with starving(0.1, walk.product.broker.process.popen.send_signal) as slow:
        while left:
            unit_s, commit_s = (
                p99_s(walk, "metering_unit_seconds"),
                p99_s(walk, "metering_unit_commit_seconds"),
            )
            print(
                f"the broker stands for {slow.stands_s:.1f} s: a unit {unit_s:.2f} s, a transaction {commit_s:.2f} s"
            )
            assert time.monotonic() < deadline, f"{left} do not fire"
            if unit_s > UNIT_S_MAX:
                slow.stands_s = max(0.1, slow.stands_s - 0.1)
            elif unit_s < UNIT_S or commit_s < COMMIT_S:
                slow.stands_s += 0.1
            time.sleep(5)
            left -= walk.firing()
        # Which of the two the runbook sends one to: the transaction is most of a unit, so it is Kafka.
        assert commit_s > unit_s / 4
    walk.over(units, commits)
    org = walk.world.org("org_slow")
    walk.world.publish(walk.world.event(org))
    walk.world.owes(org)
    walk.world.agrees(org)
    assert all(role.running for role in walk.product.roles()), "slow is no reason to end"
