"""The workers' state is lost, and made again by a command that is killed at its steps: real broker, workers and command."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE

import pytest

from pipeline import topics
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.clients import started_admin
from pipeline.settings import Settings
from tests.support.product.storm import PARTITIONS, Storm

EVERY = ("state.held", "state.folded", "state.writing", "state.writing:2", "state.made")
POINTS = EVERY if "METERING_TEST_CHAOS_SECONDS" in os.environ else ("state.held", "state.writing:2")
"""Where the command is killed, one run after the other; all of them in `make crash`."""
LIMIT_S = 90.0

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def _rebuild(storm: Storm, crash_at: str = "") -> tuple[int, str, str]:
    assert storm.running.server is not None
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pipeline", "rebuild", "state"),
        env={**storm.running.server.environment, "METERING_CRASH_AT": crash_at},
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(LIMIT_S):
        said, complained = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode(), complained.decode()


async def _lose_the_state(storm: Storm) -> None:
    async with started_admin(storm.running.connection) as admin:
        await admin.delete_topics([topics.STATE])
        while topics.STATE in await admin.list_topics():
            await asyncio.sleep(0.02)
    await ensure_topics(storm.running.connection, Settings(partitions=PARTITIONS))


async def test_a_lost_state_is_made_again_whenever_the_command_is_killed(storm: Storm) -> None:
    """Balances, budgets and the memory of duplicates are what they were: the traffic publishes many events twice."""
    worker, traffic = storm.running.workers[0], storm.traffic
    await traffic.publish(1_000)
    await storm.books_agree()
    for each in storm.running.workers:
        each.kill()
    await _lose_the_state(storm)
    worker.start()
    assert worker.process is not None
    assert await asyncio.to_thread(worker.process.wait, LIMIT_S) == 70, worker.words()

    for point in POINTS:
        code, _, complained = await _rebuild(storm, crash_at=point)
        assert code == -signal.SIGKILL, f"{point}: {complained}"
    code, said, complained = await _rebuild(storm)
    assert code == 0, complained
    report = json.loads(said)
    # The first partition was made whole by the run that was killed at the second.
    assert (report["made"] + report["whole"], report["whole"] >= 1) == (PARTITIONS, True)
    storm.running.revive()
    await traffic.publish(500)
    await storm.books_agree()
