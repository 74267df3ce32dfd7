"""One partition's pump: it stops between batches, and goes on where all is done, with nothing left out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced, TopicAuthorizationFailedError

from pipeline.kafka import pump as pump_module
from pipeline.kafka.pump import Pump

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


class Log:
    """Two topics' partitions with four records each, as a consumer and a group's reader show them."""

    interruptible = takes_together = False

    def __init__(self) -> None:
        self.at = {A: 0, B: 0}
        self.done_offsets: dict[TopicPartition, int] = {}
        self.noted: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.opened = 0

    def pause(self, *places: TopicPartition) -> None:
        self.paused |= set(places)

    def resume(self, *places: TopicPartition) -> None:
        self.paused -= set(places)

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.at[place] = offset

    async def fetch(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, Any]:
        await asyncio.sleep(0)
        found: dict[TopicPartition, Any] = {}
        for place in places:
            if place not in self.paused and self.at[place] < 4:
                found[place] = [SimpleNamespace(offset=self.at[place])]
                self.at[place] += 1
        return found

    async def positions(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: self.at[place] for place in places}

    async def check_extent(self, offsets: Mapping[TopicPartition, int]) -> None: ...

    async def guard(self, work: Awaitable[None]) -> None:
        await work

    def note_opening(self, _partition: int) -> None: ...

    def note_opened(self, _partition: int) -> None:
        self.opened += 1

    def note_fetched(self, _partition: int, positions: Mapping[TopicPartition, int]) -> bool:
        before, self.noted = self.noted, dict(positions)
        return before != self.noted

    def report_done(self, _partition: int) -> None:
        self.done_offsets = dict(self.noted)

    def done(self, place: TopicPartition) -> int:
        return self.done_offsets[place]


class Doing:
    """Does each batch when it is let, and notes topic and offset."""

    def __init__(self) -> None:
        self.under_way: asyncio.Queue[str] = asyncio.Queue()
        self.may: asyncio.Semaphore = asyncio.Semaphore(0)
        self.seen: list[tuple[str, int]] = []
        self.closed = 0

    async def open(self, _partition: int) -> Mapping[str, int]:
        return {"a": 1}

    async def process(self, topic: str, _partition: int, records: Sequence[Any], /) -> None:
        await self.under_way.put(topic)
        await self.may.acquire()
        self.seen += [(topic, record.offset) for record in records]

    async def close(self, _partition: int) -> None:
        self.closed += 1


async def test_it_goes_on_where_all_is_done_though_a_batch_was_left_between_two_topics() -> None:
    log, doing = Log(), Doing()
    log.pause(A, B)
    pump = Pump(cast(Any, log), cast(Any, log), 0, [A, B], doing)
    async with asyncio.timeout(10):
        assert await doing.under_way.get() == "a"
        halting = asyncio.create_task(pump.halt())
        await asyncio.sleep(0)
        doing.may.release()  # the batch in hand is finished, that of the other topic is not begun
        await halting
        assert doing.seen == [("a", 1)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert doing.seen == [("a", 1)], "nothing is done while it is halted"
        # The new assignment knows nothing of offsets or pauses.
        log.at, log.paused = {A: 99, B: 99}, {A, B}
        pump.go_on([A, B])
        for _ in range(10):
            doing.may.release()
        while len(set(doing.seen)) < 7:
            await asyncio.sleep(0)
        await pump.stop()
    assert set(doing.seen) == {("a", 1), ("a", 2), ("a", 3), ("b", 0), ("b", 1), ("b", 2), ("b", 3)}
    assert (log.opened, doing.closed) == (1, 1)


class Unlucky(Doing):
    """Does each batch at once, but fails as it is told: at an opening, or at a batch by topic and offset."""

    def __init__(self, openings: list[Exception], batches: dict[tuple[str, int], Exception]) -> None:
        super().__init__()
        self.openings, self.batches = openings, batches
        self.committed = {"a": 1, "b": 0}

    async def open(self, _partition: int) -> Mapping[str, int]:
        if self.openings:
            raise self.openings.pop(0)
        return dict(self.committed)

    async def process(self, topic: str, _partition: int, records: Sequence[Any], /) -> None:
        await asyncio.sleep(0)
        for record in records:
            if (error := self.batches.pop((topic, record.offset), None)) is not None:
                # Kafka had it all the same, as it may after a lost connection.
                self.committed[topic] = record.offset + 1
                raise error
            self.seen.append((topic, record.offset))
            self.committed[topic] = record.offset + 1


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_module, "AGAIN_AFTER_S", 0.0)
    monkeypatch.setattr(pump_module, "FENCED_AFTER_S", 0.0)


@pytest.mark.usefixtures("at_once")
async def test_where_kafka_was_lost_it_is_opened_again_and_goes_on_by_what_is_committed() -> None:
    log = Log()
    doing = Unlucky(
        [TimeoutError(), KafkaError("away")],
        {("a", 2): KafkaError("Unexpected error during batch delivery"), ("b", 1): ProducerFenced()},
    )
    pump = Pump(cast(Any, log), cast(Any, log), 0, [A, B], doing)
    async with asyncio.timeout(10):
        while len(doing.seen) < 5:
            await asyncio.sleep(0)
        await pump.stop()
    assert sorted(doing.seen) == [("a", 1), ("a", 3), ("b", 0), ("b", 2), ("b", 3)]
    assert (log.opened, doing.closed) == (3, 5)


@pytest.mark.usefixtures("at_once")
async def test_what_is_lost_beside_the_batches_has_it_opened_again() -> None:
    log, doing = Log(), Unlucky([], {})
    pump = Pump(cast(Any, log), cast(Any, log), 0, [A, B], doing)
    async with asyncio.timeout(10):
        while len(doing.seen) < 7:
            await asyncio.sleep(0)
        doing.committed["b"] = 2
        pump.lose(TimeoutError())
        pump.lose(TimeoutError())
        while len(doing.seen) < 9:
            await asyncio.sleep(0)
        await pump.stop()
    assert doing.seen[7:] == [("b", 2), ("b", 3)]
    assert (log.opened, doing.closed) == (2, 2)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "error", [TopicAuthorizationFailedError("metering.journal"), ValueError("a mistake")]
)
async def test_no_other_error_is_tried_again(error: Exception) -> None:
    log, doing = Log(), Unlucky([], {("a", 2): error})
    pump = Pump(cast(Any, log), cast(Any, log), 0, [A, B], doing)
    async with asyncio.timeout(10):
        with pytest.raises(type(error)):
            await pump._task
    assert (log.opened, doing.closed) == (1, 0)


@pytest.mark.usefixtures("at_once")
async def test_a_loss_that_goes_on_for_too_long_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_module, "LOST_LIMIT_S", -1.0)
    log, doing = Log(), Unlucky([KafkaError("away")], {})
    pump = Pump(cast(Any, log), cast(Any, log), 0, [A, B], doing)
    async with asyncio.timeout(10):
        with pytest.raises(KafkaError, match="away"):
            await pump._task
    assert (log.opened, doing.closed) == (0, 1)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("together", [False, True])
async def test_a_partition_that_was_open_for_long_is_opened_again_when_it_is_lost(
    monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    """Nothing was to do in it, or what was done of it is not seen here: the loss is as young as any other."""

    class Idle(Doing):
        async def open(self, _partition: int) -> Mapping[str, int]:
            return {"a": 4, "b": 4}

    now_s = 0.0
    monkeypatch.setattr(pump_module, "time", SimpleNamespace(monotonic=lambda: now_s))
    log, doing = Log(), Idle()
    log.takes_together = together
    pump = Pump(cast(Any, log), cast(Any, log), 0, [A, B], doing)
    async with asyncio.timeout(10):
        while not log.opened:
            await asyncio.sleep(0)
        now_s = 10 * pump_module.LOST_LIMIT_S
        for _ in range(20):
            await asyncio.sleep(0)
        pump.lose(ProducerFenced())
        while log.opened < 2:
            await asyncio.sleep(0)
            assert log.opened == 2 or not pump._task.done(), "it was given up"
        await pump.stop()


async def test_a_batch_that_does_not_end_is_broken_off_and_the_partition_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pump_module, "REVOKE_LIMIT_S", 0.01)
    log, doing = Log(), Doing()
    pump = Pump(cast(Any, log), cast(Any, log), 0, [A, B], doing)
    async with asyncio.timeout(10):
        assert await doing.under_way.get() == "a"
        assert not await pump.halt()
        assert (pump._task.cancelled(), doing.closed) == (True, 0)
        await pump.stop()
    assert (doing.seen, doing.closed) == ([], 1)


async def test_kafka_lost_in_the_batch_that_is_waited_for_is_not_opened_again() -> None:
    class Waiting(Doing):
        async def process(self, topic: str, _partition: int, _records: Sequence[Any], /) -> None:
            await self.under_way.put(topic)
            await self.may.acquire()
            raise KafkaError("away")

    log, doing = Log(), Waiting()
    pump = Pump(cast(Any, log), cast(Any, log), 0, [A, B], doing)
    async with asyncio.timeout(10):
        assert await doing.under_way.get() == "a"
        halting = asyncio.create_task(pump.halt())
        await asyncio.sleep(0)
        doing.may.release()
        assert not await halting
    assert (log.opened, doing.closed) == (1, 1)
