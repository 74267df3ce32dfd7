"""How long fetches are held: shortly while there is work, longer at rest."""

from __future__ import annotations

from types import SimpleNamespace

from aiokafka import TopicPartition

from pipeline.kafka.fetch_wait import AT_REST_MS, BUSY_MS, POLL_MS, REST_AFTER_MS, FetchWait


class Consumer:
    """What of a consumer a fetch depends on."""

    def __init__(self) -> None:
        self.places: set[TopicPartition] = set()
        self._fetcher = SimpleNamespace(_fetch_max_wait_ms=BUSY_MS)

    def paused(self) -> set[TopicPartition]:
        return self.places

    @property
    def held_ms(self) -> int:
        """How long the next fetch is held."""
        held: int = self._fetcher._fetch_max_wait_ms
        return held


def test_a_consumer_is_at_rest_once_nothing_came_and_busy_with_the_next_record() -> None:
    consumer = Consumer()
    wait = FetchWait(consumer)
    assert wait.poll_ms == POLL_MS
    wait.note(is_found=False)
    assert consumer.held_ms == AT_REST_MS
    wait.note(is_found=True)
    assert consumer.held_ms == BUSY_MS
    # Soon it is seen whether more comes.
    assert wait.poll_ms == REST_AFTER_MS
    wait.note(is_found=False)
    assert consumer.held_ms == AT_REST_MS
    assert wait.poll_ms == POLL_MS


def test_what_is_paused_is_to_be_fetched_again_soon() -> None:
    consumer = Consumer()
    wait = FetchWait(consumer)
    consumer.places = {TopicPartition("metering.requests", 0)}
    wait.note(is_found=False)
    assert consumer.held_ms == BUSY_MS
    consumer.places = set()
    wait.note(is_found=False)
    assert consumer.held_ms == AT_REST_MS
