"""The state topic is made anew under running workers; and the last look at the books of this product."""

from __future__ import annotations

import asyncio
from functools import partial

from pipeline import topics
from pipeline.kafka.clients import started_admin
from tests.support.product.world import ONE_INR, World
from tests.support.runbooks.walk import Walk


def test_the_state_topic_is_made_anew_under_running_workers(walk: Walk) -> None:
    alert, load = "MeteringEndsDiffer", walk.load
    walk.quiet(alert)
    load.paused.set()
    walk.world.run(lambda: _delete_the_state(walk))
    assert topics.STATE in walk.world.metering("topics")["created"]
    load.paused.clear()
    walk.fires("MeteringEndsDiffer")
    assert topics.STATE in walk.look(alert)
    assert all(worker.running for worker in walk.product.workers), "they go on with what is in their memory"
    for worker in walk.product.workers:
        worker.kill()
    walk.do(alert, "metering rebuild state")
    walk.start(*walk.product.workers)
    walk.over(alert)
    load.stop()
    for org, taken in load.taken.items():
        walk.world.owes(org, taken * ONE_INR, taken)
        walk.until(partial(_is_right, walk.world, org), f"{org} has {walk.world.balances[org]}")
    assert walk.world.metering("verify", "--full")["differences"] == []


def _is_right(world: World, org: str) -> bool:
    """Return whether a worker answers, and an org has what is left of what it was given."""
    status, billing = world.shop.call("GET", "/me/billing", org)
    return status == 200 and billing["balance_inr"] == world.balances[org]


async def _delete_the_state(walk: Walk) -> None:
    async with started_admin(walk.product.connection) as admin:
        await admin.delete_topics([topics.STATE])
        while topics.STATE in await admin.list_topics():
            await asyncio.sleep(0.02)
