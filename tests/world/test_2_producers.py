"""What producers, brokers and operators do to the topics: nothing is lost, doubled or silent, and nobody is stuck."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from pipeline import ist, topics
from pipeline.kafka.clients import producer, started_admin
from pipeline.kafka.decompression import BATCH_BYTES_MAX
from pipeline.partitioning import partition_of
from tests.support.builders import packed
from tests.support.product.razorpay import PARTITIONS
from tests.support.product.world import World


def _of(org: str) -> int:
    return partition_of(org, PARTITIONS)


def test_a_producer_with_transactions_leaves_gaps_that_are_no_loss(world: World) -> None:
    org = world.org("org_transactions")

    async def produce() -> None:
        servers = world.product.servers
        async with AIOKafkaProducer(bootstrap_servers=servers, transactional_id="gateway-1") as gateway:
            for count, commits in ((2, True), (1, False), (1, True), (3, False)):
                await gateway.begin_transaction()
                for _ in range(count):
                    value = packed(world.event(org))
                    await gateway.send_and_wait(topics.REQUESTS, value, partition=_of(org))
                await (gateway.commit_transaction() if commits else gateway.abort_transaction())

    world.run(produce)
    for _ in range(3):
        world.owes(org)
    world.agrees(org)
    # Whoever owns the partition next begins behind a gap.
    world.restart(world.worker)
    world.publish(world.event(org))
    world.owes(org)
    world.agrees(org)


def test_duplicates_that_differ_are_dropped_and_told(world: World) -> None:
    org = world.org("org_twice")
    other = next(name for name in (f"org_other_{n}" for n in range(99)) if _of(name) == _of(org))
    world.org(other)
    first = world.event(org)
    numbered = world.event(org, source="gateway/numbered", sequence=f"{7:020d}")
    dearer = json.loads(packed(first))
    dearer["data"]["usage"]["prompt_tokens"] = 9_999
    fell = {**numbered, "id": "began to count again"}
    world.publish(first, numbered, first, dearer, {**first, "subject": other}, fell)
    world.owes(org)
    world.owes(org)
    name = "metering_differing_duplicates_total"
    world.shop.until(lambda: world.counted(name) == 3, "three of them differ")
    kinds = ("other_content", "other_org", "number_fell")
    assert [world.counted(name, kind=kind) for kind in kinds] == [1, 1, 1]
    assert f"source '{first['source']}' with id '{first['id']}' was dropped" in world.worker.words()
    world.agrees(org, other)


def test_a_batch_of_gigabytes_and_a_record_that_is_too_large_end_nobody(world: World) -> None:
    org = world.org("org_large")
    bomb, large = b"0" * (BATCH_BYTES_MAX + 1), b"x" * 20_000_000
    around = [packed(world.event(org)) for _ in range(2)]
    values = [(_of(org), value) for value in (around[0], bomb, large, around[1])]
    world.send(*values, compression_type="zstd", max_request_size=2**30)
    for _ in around:
        world.owes(org)
    world.agrees(org)
    letters = [told for _, told in world.letters("malformed")]
    assert len(letters) == 2 and letters[1]["cut_from_bytes"] == str(len(large))
    assert world.worker.running


def test_deleted_and_broken_records_stop_neither_a_start_nor_their_neighbours(world: World) -> None:
    followed = (topics.CATALOG, topics.PROMOS, topics.KEYS, topics.ORDERS)

    async def spoil() -> None:
        async with producer(world.product.connection) as writer:
            for topic in followed:
                for value in (None, b"{"):
                    await writer.send_and_wait(topic, value, key=b"spoilt", partition=0)

    world.run(spoil)
    assert world.product.server is not None
    world.restart(world.worker)
    world.restart(world.product.server)
    org = world.org("org_promo")
    world.metering("promo", "create", "Short-Lived", "--bonus-inr", "50")
    check = ("POST", "/me/billing/promo/check", org, {"code": "short-lived"})
    assert world.shop.call(*check)[1] == {"code": "Short-Lived", "bonus_inr": 50}
    assert world.metering("promo", "delete", "SHORT-lived")["deleted"]
    assert world.shop.refused(*check).startswith("400 promo_invalid")
    world.shop.until(lambda: world.counted("metering_bad_records_total") >= 2, "bad records are counted")


def test_a_rate_that_is_announced_and_withdrawn_changes_no_cost(world: World, tmp_path: Path) -> None:
    org, file = world.org("org_rates"), tmp_path / "catalog.json"
    ahead = _in_minutes(9)
    route = {"model": "krutrim-2", "provider": "krutrim"}

    def applied(start: str, code: int = 0) -> Any:
        prices = {"input_inr_per_mtok": "1000", "output_inr_per_mtok": "1000"}
        file.write_text(json.dumps({"rates": [{**route, "effective_from": start, **prices}]}))
        return world.metering("catalog", "apply", str(file), code=code)

    world.publish(world.event(org, time=ahead))
    assert "must start at" in applied(_in_minutes(20), code=1)
    start = _in_minutes(40)
    assert applied(start)["published"] == 1
    world.publish(world.event(org, time=ahead))
    world.metering("catalog", "withdraw", "krutrim-2", "krutrim", start)
    world.metering("catalog", "withdraw", "krutrim-2", "krutrim", "2026-01-01T00:00:00+05:30", code=1)
    world.publish(world.event(org, time=ahead))
    for _ in range(3):
        world.owes(org)
    world.agrees(org)


def _in_minutes(minutes: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60 * minutes))


def test_a_time_stamp_from_the_future_stops_the_worker_and_is_set_aside_by_hand(world: World) -> None:
    """The broker's clock cannot be set here: with the producer's time stamps the topic looks the same."""
    org = world.org("org_future")
    stamp = time.time_ns() // 1_000_000 + 40 * ist.DAY_MS

    async def publish() -> None:
        config = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(2**63 - 1)}
        async with started_admin(world.product.connection) as admin:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topics.REQUESTS, config)])
        async with producer(world.product.connection) as writer:
            for at_ms in (None, stamp, None):
                value = packed(world.event(org))
                await writer.send_and_wait(topics.REQUESTS, value, partition=_of(org), timestamp_ms=at_ms)

    world.run(publish)
    words = world.ended(world.worker)
    assert world.worker.process is not None and world.worker.process.returncode == 70
    # What an operator has: the last line of the log, and docs/operations.md.
    [topic, partition, offset] = re.findall(r"(metering\.\w+)/(\d+), offset (\d+): .*ahead", words)[-1]
    assert (topic, partition) == (topics.REQUESTS, str(_of(org)))
    assert "docs/operations.md" in words
    world.worker.start()
    assert f"offset {offset}" in world.ended(world.worker)

    quarantine, why = ("quarantine", topic, partition), ("--reason", "40 days ahead")
    assert "is posted up to" in world.metering(*quarantine, "0", *why, code=1)
    assert "has the offsets" in world.metering(*quarantine, "99999", *why, code=1)
    assert "no topic that workers read" in world.metering(
        "quarantine", topics.JOURNAL, partition, "0", *why, code=1
    )
    assert world.metering(*quarantine, offset, *why)["reason"] == "40 days ahead"
    world.restart(world.worker)
    for _ in range(2):
        world.owes(org)
    world.agrees(org)
    [(_, told)] = world.letters("quarantined")
    assert (told["detail"], told["offset"]) == ("40 days ahead", offset)
    assert "is posted up to" in world.metering(*quarantine, offset, *why, code=1)
    world.metering("topics")
    assert topics.REQUESTS in world.metering("topics")["unchanged"]
