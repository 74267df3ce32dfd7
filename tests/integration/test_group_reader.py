"""A member of a group: its name through restarts, what it fetches meanwhile, and what others see of its progress."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from pipeline.connection import KafkaConnection
from pipeline.kafka import group_watch, pump
from pipeline.kafka.extent import InputCutOffError, InputShortenedError
from pipeline.kafka.fetch_wait import AT_REST_MS, BUSY_MS
from pipeline.kafka.reader import SESSION_TIMEOUT_MS, TAKE_RECORDS, GroupReader
from pipeline.local.broker import Broker
from pipeline.telemetry import READING

PARTITIONS = 2


class Opened:
    """Notes what was opened."""

    def __init__(self) -> None:
        self.partitions: set[int] = set()

    async def open(self, partition: int) -> Mapping[str, int]:
        self.partitions.add(partition)
        return {}

    async def process(self, topic: str, partition: int, records: Sequence[ConsumerRecord], /) -> None:
        raise AssertionError(f"nothing was written: {topic}/{partition} has {len(records)} records")

    async def close(self, partition: int) -> None:
        self.partitions.discard(partition)


class Doing(Opened):
    """Waits in each batch until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: asyncio.Queue[TopicPartition] = asyncio.Queue()
        self.go_on = asyncio.Event()
        self.next: dict[int, dict[str, int]] = {0: {}, 1: {}}
        """Where to read each partition from, and up to where it is done."""
        self.values: list[bytes] = []

    async def open(self, partition: int) -> Mapping[str, int]:
        await super().open(partition)
        return dict(self.next[partition])

    async def process(self, topic: str, partition: int, records: Sequence[ConsumerRecord], /) -> None:
        await self.under_way.put(TopicPartition(topic, partition))
        await self.go_on.wait()
        self.next[partition][topic] = records[-1].offset + 1
        self.values += [record.value for record in records]


class Gathering(Opened):
    """Gathers what it is given, of the partitions for which it has room."""

    def __init__(self) -> None:
        super().__init__()
        self.room = {1}
        self.values: dict[int, list[bytes]] = {0: [], 1: []}

    async def process(self, topic: str, partition: int, records: Sequence[ConsumerRecord], /) -> None:
        assert partition in self.room, topic
        assert len(records) <= TAKE_RECORDS
        self.values[partition] += [record.value for record in records]

    async def until(self, partition: int, values: list[bytes]) -> None:
        """Wait until a partition has given exactly these."""
        while len(self.values[partition]) < len(values):
            await asyncio.sleep(0.01)
        assert self.values[partition] == values


async def _create(servers: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    await admin.close()


@asynccontextmanager
async def _reading(servers: str, topic: str, doing: Doing) -> AsyncIterator[GroupReader]:
    def done(partition: int) -> Mapping[str, int]:
        return reader.fetched(partition)

    reader = GroupReader(KafkaConnection(servers), topic, [topic], doing, fetch_bytes=1024, done=done)
    if isinstance(doing, Keeping):
        reader.keep_open(doing)
    running = asyncio.create_task(reader.run())
    try:
        async with asyncio.timeout(60):
            yield reader
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def _committed(servers: str, group: str) -> dict[int, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    return {place.partition: there.offset for place, there in found.items()}


async def _opened_after(servers: str, group: str, names: Sequence[str]) -> float:
    """Run a reader until it has opened every partition, then leave it as a crash does; the seconds it took."""
    opened = Opened()
    reader = GroupReader(KafkaConnection(servers), group, names, opened, fetch_bytes=1024, instance="one")
    began = time.monotonic()
    running = asyncio.create_task(reader.run())
    async with asyncio.timeout(60):
        while len(opened.partitions) < PARTITIONS and not running.done():
            await asyncio.sleep(0.01)
    took_s = time.monotonic() - began
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    return took_s


async def test_a_name_is_known_through_restarts(kafka_servers: str) -> None:
    topic = f"named-{time.monotonic_ns()}"
    await _create(kafka_servers, topic)
    await _opened_after(kafka_servers, topic, [topic])
    assert await _opened_after(kafka_servers, topic, [topic]) < SESSION_TIMEOUT_MS / 1000 / 2


async def test_nothing_is_fetched_that_would_wait_and_hold_up_others(kafka_servers: str) -> None:
    """A consumer fetches nothing of a broker while anything from there waits to be taken."""
    topic, doing = f"waiting-{time.monotonic_ns()}", Doing()
    await _create(kafka_servers, topic)
    async with (
        AIOKafkaProducer(bootstrap_servers=kafka_servers) as producer,
        _reading(kafka_servers, topic, doing) as reader,
    ):
        for partition in range(PARTITIONS):
            await producer.send_and_wait(topic, b"1", partition=partition)
            assert await doing.under_way.get() == TopicPartition(topic, partition)
            assert reader._consumer is not None
            assert reader._consumer.paused() == {TopicPartition(topic, p) for p in range(partition + 1)}
        doing.go_on.set()
        for partition in range(PARTITIONS):
            await producer.send_and_wait(topic, b"2", partition=partition)
            assert await doing.under_way.get() == TopicPartition(topic, partition)


async def test_fetches_are_held_longer_only_while_no_partition_waits_for_one(kafka_servers: str) -> None:
    topic, doing = f"resting-{time.monotonic_ns()}", Doing()
    await _create(kafka_servers, topic)

    async def until_held(reader: GroupReader, held_ms: int) -> None:
        # A consumer has its fetcher once it has begun.
        while getattr(getattr(reader._consumer, "_fetcher", None), "_fetch_max_wait_ms", None) != held_ms:
            await asyncio.sleep(0.01)

    async with (
        AIOKafkaProducer(bootstrap_servers=kafka_servers) as producer,
        _reading(kafka_servers, topic, doing) as reader,
    ):
        await until_held(reader, AT_REST_MS)
        await producer.send_and_wait(topic, b"1", partition=0)
        assert await doing.under_way.get() == TopicPartition(topic, 0)
        # The batch in hand is done sometime: whatever is fetched for the other partition until then is held shortly.
        await until_held(reader, BUSY_MS)
        doing.go_on.set()
        await until_held(reader, AT_REST_MS)
        for partition in range(PARTITIONS):
            await producer.send_and_wait(topic, b"2", partition=partition)
            assert await doing.under_way.get() == TopicPartition(topic, partition)


async def test_a_partition_for_which_there_is_no_room_is_not_taken_and_holds_up_no_other(
    kafka_servers: str,
) -> None:
    topic, gathering = f"room-{time.monotonic_ns()}", Gathering()
    await _create(kafka_servers, topic)
    values = [b"%d" % number for number in range(2 * TAKE_RECORDS + 1)]
    reader = GroupReader(KafkaConnection(kafka_servers), topic, [topic], gathering, fetch_bytes=1024)
    reader.take_together(gathering.room.__contains__)
    async with AIOKafkaProducer(bootstrap_servers=kafka_servers) as producer, asyncio.timeout(60):
        running = asyncio.create_task(reader.run())
        for value in values:
            for partition in range(PARTITIONS):
                await producer.send(topic, value, partition=partition)
        await producer.flush()
        await gathering.until(1, values)
        assert gathering.values[0] == []
        for room in ({0}, {0, 1}):
            gathering.room.clear()
            gathering.room |= room
            reader.ask_for_room()
            await gathering.until(0, values)
        await producer.send_and_wait(topic, b"last", partition=1)
        await gathering.until(1, [*values, b"last"])
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_the_groups_offsets_follow_what_is_done(kafka_servers: str) -> None:
    topic, doing = f"followed-{time.monotonic_ns()}", Doing()
    doing.next[1][topic] = 7  # known by the partition's owner when it is opened
    doing.go_on.set()
    await _create(kafka_servers, topic)
    async with AIOKafkaProducer(bootstrap_servers=kafka_servers) as producer:
        for number in range(7):
            await producer.send_and_wait(topic, b"%d" % number, partition=1)
        async with _reading(kafka_servers, topic, doing):
            await producer.send_and_wait(topic, b"1", partition=0)
            while await _committed(kafka_servers, topic) != {0: 1, 1: 7}:
                await asyncio.sleep(0.01)
            await producer.send_and_wait(topic, b"2", partition=0)
            while doing.next[0] != {topic: 2}:
                await asyncio.sleep(0.001)
        # Left in order, it says its last word before it goes.
        assert await _committed(kafka_servers, topic) == {0: 2, 1: 7}


class OpensLater(Doing):
    """Opens nothing before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_open = asyncio.Event()

    async def open(self, partition: int) -> Mapping[str, int]:
        await self.may_open.wait()
        return await super().open(partition)


def _shown(name: str, part: str, **labels: str) -> float | None:
    return READING.registry.get_sample_value(f"metering_{name}", {"part": part, **labels})


async def test_what_is_opening_what_is_stuck_and_what_is_behind_shows_while_it_is_ours(
    kafka_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_watch, "WATCH_EVERY_S", 0.05)
    topic, doing = f"shown-{time.monotonic_ns()}", OpensLater()
    await _create(kafka_servers, topic)

    def lag() -> float | None:
        return _shown("lag_offsets", topic, topic=topic, partition="0")

    async with AIOKafkaProducer(bootstrap_servers=kafka_servers) as producer:
        async with _reading(kafka_servers, topic, doing) as reader:
            assert reader.problem == "joining the group"
            await _until(lambda: reader.problem == "opening partition 0, 1")
            await _until(lambda: (_shown("opening_seconds", topic, partition="0") or 0) > 0)
            doing.may_open.set()
            await _until(lambda: reader.problem is None)
            assert _shown("opening_seconds", topic, partition="0") is None
            for value in (b"1", b"2", b"3"):
                await producer.send_and_wait(topic, value, partition=0)
            # A batch is in hand and does not end: the broker's end is told against what is done, not what is fetched.
            await _until(lambda: lag() == 3 and (_shown("standing_seconds", topic, partition="0") or 0) > 0)
            doing.go_on.set()
            await _until(lambda: (lag(), _shown("standing_seconds", topic, partition="0")) == (0, 0))
        assert lag() is None
        assert _shown("standing_seconds", topic, partition="0") is None


class Keeping(Doing):
    """Keeps its partitions open through a rebalance; notes what is opened, parked and closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on.set()
        self.words: list[str] = []
        self.parked: set[int] = set()

    async def open(self, partition: int) -> Mapping[str, int]:
        self.words.append(f"open {partition}")
        return await super().open(partition)

    async def process(self, topic: str, partition: int, records: Sequence[ConsumerRecord], /) -> None:
        assert partition not in self.parked
        await super().process(topic, partition, records)

    async def park(self, partition: int) -> None:
        self.parked.add(partition)

    def resume(self, partition: int) -> None:
        self.parked.remove(partition)
        self.words.append(f"resume {partition}")

    async def close(self, partition: int) -> None:
        self.parked.discard(partition)
        self.words.append(f"close {partition}")
        await super().close(partition)


async def test_a_rebalance_moves_what_must_move_and_nothing_else_is_opened_again(kafka_servers: str) -> None:
    topic, first, second = f"kept-{time.monotonic_ns()}", Keeping(), Keeping()
    await _create(kafka_servers, topic)

    async def publish(producer: AIOKafkaProducer, value: bytes) -> None:
        for partition in range(PARTITIONS):
            await producer.send_and_wait(topic, value, partition=partition)

    async with (
        AIOKafkaProducer(bootstrap_servers=kafka_servers) as producer,
        _reading(kafka_servers, topic, first) as one,
    ):
        await publish(producer, b"before")
        await _until(lambda: first.values == [b"before"] * 2)
        second.next = first.next
        async with _reading(kafka_servers, topic, second) as other:
            await _until(lambda: len(second.partitions) == 1 and one.problem is other.problem is None)
            [kept] = first.partitions
            [moved] = second.partitions
            assert first.words == ["open 0", "open 1", f"close {moved}", f"resume {kept}"]
            await publish(producer, b"shared")
            await _until(lambda: len(first.values + second.values) == 4)
            assert (first.values[2:], second.values) == ([b"shared"], [b"shared"])
        # The other one has left: its partition comes back, and the one that stayed is not touched.
        await _until(lambda: first.partitions == {0, 1} and one.problem is None)
        assert first.words[4:] == [f"resume {kept}", f"open {moved}"]
        await publish(producer, b"after")
        await _until(lambda: len(first.values) == 5)
        assert first.values[3:] == [b"after"] * 2


async def test_a_batch_that_does_not_end_is_broken_off_when_partitions_are_shared_out_anew(
    kafka_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "REVOKE_LIMIT_S", 0.2)
    topic, first, second = f"stuck-{time.monotonic_ns()}", Keeping(), Keeping()
    await _create(kafka_servers, topic)
    async with (
        AIOKafkaProducer(bootstrap_servers=kafka_servers) as producer,
        _reading(kafka_servers, topic, first) as one,
    ):
        await _until(lambda: one.problem is None and first.partitions == {0, 1})
        first.go_on.clear()
        await producer.send_and_wait(topic, b"stuck", partition=0)
        assert await first.under_way.get() == TopicPartition(topic, 0)
        second.next = first.next
        async with _reading(kafka_servers, topic, second) as other:
            await _until(lambda: len(second.partitions) == 1 and one.problem is other.problem is None)
            first.go_on.set()
            # Whoever has it now does it: what was broken off is not done, and was not done in part.
            await _until(lambda: first.values + second.values == [b"stuck"])
            assert "close 0" in first.words
            assert "resume 0" not in first.words


async def test_a_broker_that_is_gone_is_told_and_so_is_its_return(
    fresh_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WATCH_EVERY_S", 0.05), ("SILENT_LIMIT_S", 1.0), ("ASK_LIMIT_MS", 500)):
        monkeypatch.setattr(group_watch, name, value)
    await _create(fresh_broker.servers, "left")
    async with _reading(fresh_broker.servers, "left", Doing()) as reader:
        await _until(lambda: reader.problem is None)
        await fresh_broker.stop()
        await _until(lambda: str(reader.problem).startswith("Kafka has not answered for "))
        await _until(lambda: (_shown("broker_silent_seconds", "left") or 0) > 1)
        await fresh_broker.start()
        await _until(lambda: reader.problem is None)


def test_who_reads_other_topics_has_another_name() -> None:
    """It must not be given the partitions that were assigned to one with fewer topics."""

    def name(*topics: str) -> str | None:
        return GroupReader(
            KafkaConnection("k:1"), "g", topics, Opened(), fetch_bytes=1, instance="one"
        )._instance

    assert name("a", "b") == name("b", "a") != name("a")
    assert GroupReader(KafkaConnection("k:1"), "g", ["a"], Opened(), fetch_bytes=1)._instance is None


@asynccontextmanager
async def _transactional(servers: str) -> AsyncIterator[AIOKafkaProducer]:
    name = f"gateway-{time.monotonic_ns()}"
    async with AIOKafkaProducer(bootstrap_servers=servers, transactional_id=name) as producer:
        yield producer


async def _transaction(producer: AIOKafkaProducer, topic: str, *values: bytes, commits: bool) -> None:
    await producer.begin_transaction()
    for value in values:
        await producer.send_and_wait(topic, value, partition=0)
    await (producer.commit_transaction() if commits else producer.abort_transaction())


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def test_what_transactions_leave_in_the_offsets_is_read_past(kafka_servers: str) -> None:
    """Six records and four markers: what is aborted and the markers are no records, and nothing to wait for."""
    topic, doing = f"transactions-{time.monotonic_ns()}", Doing()
    doing.go_on.set()
    await _create(kafka_servers, topic)
    async with _transactional(kafka_servers) as producer, _reading(kafka_servers, topic, doing) as reader:
        await _transaction(producer, topic, b"a", b"b", commits=True)
        await _transaction(producer, topic, b"never", commits=False)
        await _transaction(producer, topic, b"c", commits=True)
        await _until(lambda: doing.values == [b"a", b"b", b"c"])
        await _transaction(producer, topic, b"nor this", b"or this", commits=False)
        while reader.fetched(0) != {topic: 10} or (await _committed(kafka_servers, topic))[0] != 10:
            await asyncio.sleep(0.01)
    assert doing.values == [b"a", b"b", b"c"]


async def test_what_waits_behind_somebodys_open_transaction_shows_as_standing(
    kafka_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may read on before it ends, so for the broker's end of what is committed nothing would be left to do."""
    monkeypatch.setattr(group_watch, "WATCH_EVERY_S", 0.05)
    topic, doing = f"left-open-{time.monotonic_ns()}", Doing()
    doing.go_on.set()
    await _create(kafka_servers, topic)

    def shown() -> tuple[float | None, float | None]:
        lag = _shown("lag_offsets", topic, topic=topic, partition="0")
        return lag, _shown("standing_seconds", topic, partition="0")

    async with _transactional(kafka_servers) as producer, _reading(kafka_servers, topic, doing):
        await _transaction(producer, topic, b"a", commits=True)
        await _until(lambda: doing.values == [b"a"] and shown() == (0, 0))
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"b", partition=0)
        await _until(lambda: shown()[0] == 1 and (shown()[1] or 0) > 0.3)
        assert doing.values == [b"a"]
        await producer.commit_transaction()
        await _until(lambda: doing.values == [b"a", b"b"] and shown() == (0, 0))


async def test_retention_that_overtakes_the_reader_ends_it(kafka_servers: str) -> None:
    """It must not go on at the log's new beginning as if nothing had been there."""
    topic, doing = f"overtaken-{time.monotonic_ns()}", Doing()
    place = TopicPartition(topic, 0)
    await _create(kafka_servers, topic)
    async with AIOKafkaProducer(bootstrap_servers=kafka_servers) as producer:
        for number in range(6):
            await producer.send_and_wait(topic, b"%d" % number * 1000, partition=0)
    kafka = KafkaConnection(kafka_servers)
    reader = GroupReader(kafka, topic, [topic], doing, fetch_bytes=1024)
    running = asyncio.create_task(reader.run())
    async with asyncio.timeout(60):
        await doing.under_way.get()
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_servers)
        await admin.start()
        await admin.delete_records({place: RecordsToDelete(before_offset=4)})
        await admin.close()
        doing.go_on.set()
        with pytest.raises(InputCutOffError, match=f"{topic}/0 begins at 4, but [123] is the next to read"):
            await running
    assert b"4" * 1000 not in doing.values


async def test_a_topic_that_ends_below_what_was_read_ends_the_reader(kafka_servers: str) -> None:
    """Made anew, it would be passed over until it is as long as it was."""
    topic, doing = f"shortened-{time.monotonic_ns()}", Doing()
    doing.go_on.set()
    await _create(kafka_servers, topic)
    async with AIOKafkaProducer(bootstrap_servers=kafka_servers) as producer:
        async with _reading(kafka_servers, topic, doing):
            for number in range(3):
                await producer.send_and_wait(topic, b"%d" % number, partition=0)
            await _until(lambda: doing.next[0] == {topic: 3})
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_servers)
        await admin.start()
        await admin.delete_topics([topic])
        while topic in await admin.list_topics():
            await asyncio.sleep(0.01)
        await admin.close()
        await _create(kafka_servers, topic)
    async with AIOKafkaProducer(bootstrap_servers=kafka_servers) as producer:
        for number in range(2):
            await producer.send_and_wait(topic, b"new %d" % number, partition=0)
    reader = GroupReader(KafkaConnection(kafka_servers), topic, [topic], doing, fetch_bytes=1024)
    async with asyncio.timeout(60):
        with pytest.raises(InputShortenedError, match=f"{topic}/0 ends at 2, but was read up to 3"):
            await reader.run()
    assert doing.values == [b"0", b"1", b"2"]
