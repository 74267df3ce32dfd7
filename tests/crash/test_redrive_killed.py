"""`metering redrive` killed wherever it may die, and run twice at once: every letter is charged once."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process

import pytest
from aiokafka import TopicPartition

from pipeline.kafka.fenced import read_compacted
from pipeline.posting.redriving import LETTERS_A_TRANSACTION, STATE_PLACE, start_of
from tests.support.product.storm import SEED, Storm
from tests.support.product.traffic import RATES

NEW_RATES = {("beta", "new"): (7_500, 1_875, 30_000)}
EVENTS = 12_000
POINTS = ("redrive.fenced", "redrive.sent", "redrive.sent:2")
"""Fenced with nothing written; with its first transaction open; with one committed and the next one open."""
KILLS = 4
LIMIT_S = 120.0

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def _start(storm: Storm, crash_at: str = "") -> Process:
    assert storm.running.server is not None
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pipeline", "redrive"),
        env={**storm.running.server.environment, "METERING_CRASH_AT": crash_at},
        stdout=PIPE,
        stderr=PIPE,
    )


async def _ended(process: Process) -> tuple[int, str, str]:
    async with asyncio.timeout(LIMIT_S):
        said, complained = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode(), complained.decode()


async def _redrive(storm: Storm) -> tuple[int, int, int]:
    """Run it to its end: how many it redrove, how many were redriven before, and how many are left unpriced."""
    code, said, complained = await _ended(await _start(storm))
    assert code == 0, complained + storm.running.all_words()
    report = json.loads(said)
    return report["redriven"], report["earlier"], report["left"].get("unpriced", 0)


async def _marked(storm: Storm) -> int:
    """Return how many letters are known to be redriven."""
    kept = await read_compacted(storm.running.connection, TopicPartition(*STATE_PLACE))
    return sum(start_of(key) is None for key in kept)


async def _letters(storm: Storm) -> int:
    """Publish events of a route without a rate and return how many dead letters that made."""
    traffic = storm.traffic
    before = traffic.truth.paid
    traffic.rates = NEW_RATES
    await traffic.publish(EVENTS)
    traffic.rates = RATES
    letters = -1
    async with asyncio.timeout(LIMIT_S):
        while True:
            redriven, _, left = await _redrive(storm)
            assert redriven == 0
            # Those that were published twice may have two.
            if left == letters and left >= traffic.truth.paid - before:
                return letters
            letters = left


async def _killed_at_random(storm: Storm, draw: random.Random) -> None:
    """Kill the command, two at once that fence each other, and every other time a worker under them."""
    both = [await _start(storm), await _start(storm)]
    await asyncio.sleep(draw.uniform(0.3, 1.5))
    if draw.random() < 0.5:
        worker = draw.choice(storm.running.workers)
        worker.kill()
        worker.start()
    for process in both:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_every_letter_is_charged_once_whenever_the_redrive_is_killed(storm: Storm) -> None:
    """At its crash points, at random with another one beside it, and between its commit and the charge."""
    letters = await _letters(storm)
    assert letters > 3 * LETTERS_A_TRANSACTION
    await storm.publish_rates(NEW_RATES)
    for point in POINTS:
        code, _, complained = await _ended(await _start(storm, crash_at=point))
        assert code == -signal.SIGKILL, f"{point}: {complained}"
    assert await _marked(storm) == LETTERS_A_TRANSACTION
    draw = random.Random(SEED)
    for _ in range(KILLS):
        await _killed_at_random(storm, draw)

    for worker in storm.running.workers:
        worker.kill()
    process = await _start(storm)
    async with asyncio.timeout(LIMIT_S):
        while await _marked(storm) < letters:
            await asyncio.sleep(0.05)
    process.kill()
    await process.communicate()
    storm.running.revive()

    # What is done is passed over: by the one that was killed, where it came to note that, or by the next.
    redriven, earlier, left = await _redrive(storm)
    assert (redriven, left) == (0, 0)
    assert earlier in (0, letters)
    assert await _redrive(storm) == (0, 0, 0)
    await storm.books_agree()
