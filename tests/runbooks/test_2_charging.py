"""Events and commands that cannot be charged, each for its reason, and events of which nothing can be."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

from pipeline.accounts.commands import Credit, encode
from pipeline.kafka.clients import producer
from pipeline.partitioning import partition_of
from pipeline.topics import BILLING
from tests.support.builders import packed
from tests.support.product.razorpay import PARTITIONS
from tests.support.runbooks.walk import Walk

ORG = "org_letters"


def test_a_route_without_a_rate(walk: Walk, tmp_path: Path) -> None:
    walk.world.org(ORG)
    walk.quiet("MeteringUnpriced")
    walk.world.publish(walk.world.event(ORG, data__model="indus-9", data__provider="nobody"))
    walk.fires("MeteringUnpriced")
    assert "indus-9" in walk.look("MeteringUnpriced")
    file = tmp_path / "catalog.json"
    rate = {"input_inr_per_mtok": "12.5", "output_inr_per_mtok": "50"}
    route = {"model": "indus-9", "provider": "nobody", "effective_from": "2026-01-01T00:00:00+05:30"}
    file.write_text(json.dumps({"rates": [{**route, **rate}]}))
    assert "redriven" in walk.do("MeteringUnpriced", "metering redrive").text
    walk.do("MeteringUnpriced", "metering catalog apply", FILE=str(file))
    said = walk.do("MeteringUnpriced", "metering redrive").text
    walk.until(lambda: walk.world.shop.balance(ORG) < 100, f"it is charged: {said}")
    walk.over("MeteringUnpriced")


def test_letters_of_every_other_reason(walk: Walk) -> None:
    every = ("MeteringDeadLetters", "MeteringSequenceLeap", "MeteringUnsignedEvents")
    forged = "MeteringUnauthenticatedCommands"
    walk.quiet(*every, forged)
    world, place = walk.world, partition_of(ORG, PARTITIONS)
    world.metering("gateway", "create", "bound-1")
    world.send((place, b"{"))
    for number in (1, 5 * 10**18):
        world.publish(world.event(ORG, source="gateway/leaping", sequence=f"{number:020d}"))
    world.publish(world.event(ORG, source="gateway/bound-1"))
    world.run(partial(_forge, walk))
    walk.fires(*every, forged)
    letters = walk.look("MeteringDeadLetters")
    for reason in ("malformed", "leap", "unsigned", "unauthenticated"):
        assert f"reason:{reason}" in letters, letters
    assert "no header 'mac'" in letters
    before = world.shop.balance(ORG)
    walk.do("MeteringSequenceLeap", "metering redrive --leaps")
    walk.until(lambda: world.shop.balance(ORG) < before, "the event that leapt is charged")
    after_leap = world.shop.balance(ORG)
    assert "bound-1" in walk.do("MeteringUnsignedEvents", "metering gateway create", NAME="bound-1").text
    walk.do("MeteringUnsignedEvents", "metering redrive --unsigned")
    walk.until(lambda: world.shop.balance(ORG) < after_leap, "the unsigned event is charged")
    walk.over(*every, forged)


async def _forge(walk: Walk) -> None:
    async with producer(walk.product.connection) as writer:
        gift = encode(Credit("forged", ORG, 10**15, "a gift", "f"))
        await writer.send_and_wait(BILLING, gift, partition=partition_of(ORG, PARTITIONS))


def test_a_gateway_that_sends_what_it_has_sent_before(walk: Walk) -> None:
    walk.quiet("MeteringNothingPosted")
    again = packed(walk.world.event(ORG))
    walk.load.paused.set()
    deadline = time.monotonic() + 150
    while "MeteringNothingPosted" not in walk.firing():
        assert time.monotonic() < deadline, "events come, none is charged, and nobody is told"
        walk.world.send((partition_of(ORG, PARTITIONS), again))
        time.sleep(0.5)
    walk.load.paused.clear()
    walk.over("MeteringNothingPosted")
