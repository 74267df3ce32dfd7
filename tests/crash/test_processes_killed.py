"""The promises over the real parts: real broker, real engine, real processes, killed and frozen.

At the end the product's own `verify` is clean, and a count that shares no code with it agrees.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence

import pytest

from pipeline.crashpoints import POINTS
from tests.support.product.processes import Product, Role
from tests.support.product.storm import ORGS, SEED, Storm

CREDIT_NANO = 5_000_000_000
CHAOS_S = float(os.environ.get("METERING_TEST_CHAOS_SECONDS", "30"))
"""How long processes are killed and frozen at random; `make crash` takes longer."""
REACHED_LIMIT_S = 120.0

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def _chaos(running: Product, seed: int, seconds: float) -> dict[str, int]:
    """Kill, freeze, add and restart at random; return what was done how often."""
    draw = random.Random(seed)
    done = {"worker killed": 0, "worker frozen": 0, "server killed": 0, "worker joined": 0}
    deadline = time.monotonic() + seconds
    assert running.server is not None
    while time.monotonic() < deadline:
        await asyncio.sleep(draw.uniform(0.5, 3))
        choice = draw.random()
        worker = draw.choice(running.workers)
        if choice < 0.6:
            worker.kill()
            worker.start()
            done["worker killed"] += 1
        elif choice < 0.7 and len(running.workers) < 3:
            # Without a name: what is started again in its place is a stranger to the group.
            running.add_worker(named=False).start()
            done["worker joined"] += 1
        elif choice < 0.8:
            running.server.kill()
            running.server.start()
            done["server killed"] += 1
        else:
            worker.signal(signal.SIGSTOP)
            await asyncio.sleep(12)
            worker.signal(signal.SIGCONT)
            done["worker frozen"] += 1
        running.revive()
    return done


async def test_nothing_is_lost_or_doubled_when_processes_are_killed(storm: Storm) -> None:
    """Two and three workers and the server, killed and frozen under load."""
    traffic = storm.traffic
    chaos = asyncio.create_task(_chaos(storm.running, seed=SEED, seconds=CHAOS_S))
    while not chaos.done():
        await traffic.publish(150)
        await asyncio.sleep(0.05)
    done = chaos.result()
    print(done, len(traffic.truth.charged), "events,", traffic.truth.duplicates, "duplicates")
    await storm.running.ready()
    await storm.credit(ORGS[:5], CREDIT_NANO)
    await storm.books_agree()
    assert done["worker killed"] > 0


async def test_every_named_crash_point_is_survived(storm: Storm) -> None:
    """Each point between two steps is reached and ends the process there; the books agree after all.

    The start after one end is the one that ends at the next point. Worker and sink go through theirs side by side: their ends
    meet, as they do in life.
    """
    running = storm.running
    assert running.server is not None
    # Those of a rebuild are reached by a command: test_rebuild_killed.py.
    of_sink = [point for point in POINTS if point.startswith("sink")]
    of_worker = [point for point in POINTS if point.startswith("worker")]
    async with asyncio.TaskGroup() as group:
        ending = [
            group.create_task(_ended_at_each(running, running.server, of_sink)),
            group.create_task(_ended_at_each(running, running.workers[0], of_worker)),
        ]
        # Points that lie behind a unit of work or a range are reached by events only.
        while not all(each.done() for each in ending):
            await storm.traffic.publish(40)
            await asyncio.sleep(0.1)
    await storm.traffic.publish(100)
    await storm.books_agree()


async def _ended_at_each(running: Product, role: Role, points: Sequence[str]) -> None:
    """Have a process end at each point in turn, and start it once more."""
    role.kill()
    for point in points:
        role.start(crash_at=point)
        deadline = time.monotonic() + REACHED_LIMIT_S
        while role.running:
            assert time.monotonic() < deadline, f"{role.name}: {point} was not reached\n{running.all_words()}"
            await asyncio.sleep(0.1)
        assert role.process is not None
        assert role.process.returncode == -signal.SIGKILL, f"{point}\n{role.words()}"
    role.start()


async def test_a_broker_killed_and_restarted_loses_nothing(storm: Storm) -> None:
    """Events acknowledged before the broker died are charged once it is back."""
    await storm.traffic.publish(2_000)
    await storm.broker.stop(seconds_max=0)
    await storm.broker.start()
    await storm.traffic.publish(500)
    await storm.books_agree()
