"""A worker that gets too little of its machine while an org sends much: who is told, and that all of it is charged."""

from __future__ import annotations

import asyncio
import time

from aiokafka import AIOKafkaProducer

from pipeline.partitioning import partition_of
from pipeline.topics import REQUESTS
from tests.support.builders import packed
from tests.support.product.razorpay import PARTITIONS
from tests.support.product.world import ONE_INR
from tests.support.runbooks.starved import Starved, starving
from tests.support.runbooks.walk import Walk

STANDS_S, STANDS_S_MORE, STANDS_S_MAX = 0.4, 0.1, 1.2
"""For how long they stand then: at first, what is added each time they still keep up, and at most."""
BEHIND_S_MIN, BEHIND_S_MAX = 12.0, 20.0
"""How far behind they are to be. After 10 s without progress a worker ends itself, and that is another walk."""
BURST_EVENTS = 500
LIMIT_S = 200.0
UNIT_P99_S = "histogram_quantile(0.99, sum by (le) (rate(metering_unit_seconds_bucket[15s])))"
EVENTS_IN_A_UNIT = "sum(rate(metering_unit_events_sum[15s])) / sum(rate(metering_unit_events_count[15s]))"
BEHIND_S = "max(metering_worker_behind_seconds)"


def test_a_worker_that_gets_too_little_of_its_machine(walk: Walk) -> None:
    alert = "MeteringWorkerBehind"
    walk.quiet(alert)
    org = walk.world.org("org_large")
    before = [worker.process for worker in walk.product.workers]
    usual_events = walk.shown(EVENTS_IN_A_UNIT)
    with starving(STANDS_S, *(worker.signal for worker in walk.product.workers)) as workers:
        sent = asyncio.run(send_until(walk, org, alert, workers))
        print(f"{sent} events are sent, and the workers stand for {workers.stands_s:.2f} s at a time")
        # What the runbook has one look at: units are long and have many events in them, so it is load, not Kafka.
        assert walk.shown(EVENTS_IN_A_UNIT) > 10 * usual_events
    walk.over(alert)
    walk.world.owes(org, ONE_INR * sent, sent)
    walk.world.agrees(org)
    walk.until(lambda: walk.world.requests_of(org) == (sent, 0), "ClickHouse has every one, once")
    assert [worker.process for worker in walk.product.workers if worker.running] == before


async def send_until(walk: Walk, org: str, alert: str, workers: Starved) -> int:
    """Send an org's events until an alert fires, with workers that get less and less; return how many they were."""
    sent, deadline, looked_s = 0, time.monotonic() + LIMIT_S, time.monotonic()
    async with AIOKafkaProducer(bootstrap_servers=walk.product.servers, linger_ms=20) as writer:
        while alert not in walk.firing():
            unit_s, behind_s = walk.shown(UNIT_P99_S), walk.shown(BEHIND_S)
            assert time.monotonic() < deadline, f"{sent} events, {behind_s} s behind, units of {unit_s} s"
            for _ in range(BURST_EVENTS):
                event = packed(walk.world.event(org))
                await writer.send(REQUESTS, event, partition=partition_of(org, PARTITIONS))
            await writer.flush()
            sent += BURST_EVENTS
            if time.monotonic() > looked_s + 5:
                looked_s = time.monotonic()
                print(
                    f"{sent} events: {behind_s:.1f} s behind, units of {unit_s:.2f} s, {workers.stands_s:.2f}"
                )
                if behind_s > BEHIND_S_MAX:
                    workers.stands_s = max(STANDS_S_MORE, workers.stands_s / 1.5)
                elif behind_s < BEHIND_S_MIN:
                    workers.stands_s = min(STANDS_S_MAX, workers.stands_s + STANDS_S_MORE)
    return sent
