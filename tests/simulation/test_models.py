"""The models do what Kafka and ClickHouse do, as far as the product relies on it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from pipeline.inserts import JournalInsert
from pipeline.journal import LEDGER, NATIVE, REQUESTS, Row, encode_rows, public_id
from tests.simulation.clickhouse import Group, RefusedError, Store
from tests.simulation.faults import plan
from tests.simulation.kafka import Broker, FencedError, Log, Producer
from tests.support.journal_rows import ledger_row, request


def broker(slow_markers: float = 0.0) -> Broker:
    return Broker(random.Random(1), lambda: 1000, fencing=True, slow_markers=slow_markers)


def send(producer: Producer, log: Log, *values: bytes, key: bytes = b"k") -> None:
    producer.begin(Counter())
    for value in values:
        producer.send(log, key, value)


def values(log: Log) -> list[bytes | None]:
    return [entry.value for entry in log.all_committed()]


class TestKafka:
    def test_a_reader_of_committed_records_stops_at_what_is_open(self) -> None:
        kafka = broker()
        log, one, other = kafka.log("t", 0), kafka.start_producer("one"), kafka.start_producer("other")
        send(one, log, b"a")
        send(other, log, b"b")
        other.commit()
        assert (values(log), log.stable_end, log.next_offset) == ([], 0, 3)
        one.commit()
        assert values(log) == [b"a", b"b"]
        assert [entry.offset for entry in log.all_committed()] == [0, 1]
        assert log.next_offset == 4

    def test_a_new_producer_aborts_and_fences_the_old_one(self) -> None:
        kafka = broker()
        log, old = kafka.log("t", 0), kafka.start_producer("id")
        send(old, log, b"lost")
        new = kafka.start_producer("id")
        assert log.stable_end == log.next_offset == 2
        with pytest.raises(FencedError):
            old.commit()
        with pytest.raises(FencedError):
            old.send(log, None, b"late")
        send(new, log, b"kept")
        new.commit()
        assert values(log) == [b"kept"]

    def test_a_decided_transaction_shows_once_its_marker_is_there(self) -> None:
        kafka = broker(slow_markers=1.0)
        log, producer = kafka.log("t", 0), kafka.start_producer("id")
        send(producer, log, b"a")
        producer.commit()
        assert values(log) == []
        kafka.start_producer("id")
        assert values(log) == [b"a"]

    def test_compaction_keeps_the_newest_committed_value_of_each_key(self) -> None:
        kafka = broker()
        log, producer = kafka.log("t", 0), kafka.start_producer("id")
        for value in (b"1", b"2"):
            send(producer, log, value)
            producer.commit()
        send(producer, log, b"other", key=b"other")
        producer.commit()
        send(producer, log, b"aborted")
        kafka.start_producer("id")
        assert log.compact(log.next_offset, 1000) == 2
        assert values(log) == [b"2", b"other"]
        assert log.read(0, 1) == ([log.entries[0]], log.entries[1].offset)

    def test_compaction_leaves_what_is_above_a_point_or_open(self) -> None:
        kafka = broker()
        log, producer = kafka.log("t", 0), kafka.start_producer("id")
        send(producer, log, b"1")
        producer.commit()
        send(producer, log, b"2")
        assert log.compact(log.next_offset, 1000) == 0
        producer.commit()
        assert log.compact(1, 1000) == 0
        assert log.compact(log.next_offset, 1000) == 1

    def test_a_forgotten_transaction_times_out(self) -> None:
        kafka = broker()
        log, producer = kafka.log("t", 0), kafka.start_producer("id")
        send(producer, log, b"a")
        assert kafka.forgotten([producer]) == []
        [gone] = kafka.forgotten([])
        kafka.time_out(gone)
        assert log.stable_end == log.next_offset
        with pytest.raises(FencedError):
            producer.commit()


AT_MS = 1_782_844_200_000
"""2026-06-30T18:30:00.000Z: the first instant of July in India."""


def insert_of(kind: str, rows: Sequence[Row], token: str) -> JournalInsert:
    payload = encode_rows(kind, rows)[0].value
    return JournalInsert(kind, kind, NATIVE, (), 0, rows[0].id, rows[-1].id, len(rows), payload, token)


def insert(token: str, *times_ms: int, first: int = 1) -> JournalInsert:
    counted = {"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 0, "cost_nano": 100}
    rows = [request(public_id(0, first + n), "org", at_ms, **counted) for n, at_ms in enumerate(times_ms)]
    return insert_of(REQUESTS, rows, token)


@pytest.fixture
def store() -> Store:
    store = Store(random.Random(1), plan(0, 1, conditions={"upgraded_after": 0}), lambda: 1000)
    store.faults = False
    return store


class TestClickHouse:
    def test_a_block_with_a_known_token_is_dropped(self, store: Store) -> None:
        store.insert(insert("t", AT_MS))
        store.insert(insert("t", AT_MS))
        store.insert(insert("t", AT_MS, AT_MS, first=7))
        assert {row_id: len(rows) for row_id, rows in store.rows[REQUESTS].items()} == {1024: 1}
        assert list(store.usage_day.values()) == [[1, 0, 10, 0, 5, 0, 100]]
        assert list(store.model_day.values()) == [[1, 15]]
        assert list(store.posted_day.values()) == [[1, 100]]

    def test_days_and_months_turn_at_midnight_in_india(self, store: Store) -> None:
        store.insert(insert("t", AT_MS - 1, AT_MS))
        days = sorted(int(str(day)) for _, day, *_ in store.usage_day)
        assert days == [20_634, 20_635]

    @pytest.mark.parametrize("landed", range(1, 8))
    def test_a_repeated_insert_heals_what_landed_in_part(self, store: Store, landed: int) -> None:
        whole = insert("t", AT_MS - 1, AT_MS)
        store.apply(whole, landed)
        assert store.half == {"t"}
        store.apply(whole)
        assert not store.half
        assert store.count(REQUESTS, 0, 10**9, 0) == 2
        assert sum(sums[0] for sums in store.usage_day.values()) == 2
        assert sum(sums[0] for sums in store.model_day.values()) == 2
        assert sum(sums[0] for sums in store.posted_day.values()) == 2

    def test_a_token_is_forgotten_when_enough_blocks_came_after_it(self) -> None:
        seed = next(s for s in range(1000) if plan(s, 1).window == 8)
        store = Store(random.Random(1), plan(seed, 1), lambda: 1000)
        store.faults = False
        for n in range(9):
            store.insert(insert(f"t{n}", AT_MS, first=10 * n + 1))
        store.insert(insert("t8", AT_MS, first=81))
        assert store.count(REQUESTS, 0, 10**9, 0) == 9
        store.insert(insert("t0", AT_MS, first=1))
        assert store.count(REQUESTS, 0, 10**9, 0) == 10

    def test_the_ledger_has_no_months(self, store: Store) -> None:
        store.insert(insert_of(LEDGER, [ledger_row(1024, "org", 5, 5)], "t"))
        assert store.count(LEDGER, 1024, 1024, 0) == 1

    @pytest.mark.parametrize("landed", range(1, 9))
    def test_a_server_killed_after_a_token_has_lost_the_block_until_it_is_put_back(
        self, store: Store, landed: int
    ) -> None:
        whole = insert("t", AT_MS - 1, AT_MS)
        store.apply(whole, landed, torn=True)
        store.apply(whole)
        whole_again = (
            store.count(REQUESTS, 0, 10**9, 0),
            _rolled_up(store.usage_day),
            _rolled_up(store.model_day),
            _rolled_up(store.posted_day),
        )
        assert whole_again != (2, 2, 2, 2)
        assert store.torn == {"t"}
        store.put_back(whole, store.prepare(whole))
        store.complete_roll_ups(whole)
        assert store.count(REQUESTS, 0, 10**9, 0) == 2
        sums = (store.usage_day, store.model_day, store.posted_day)
        assert [_rolled_up(each) for each in sums] == [2, 2, 2]
        assert not store.torn

    def test_what_is_all_there_is_not_put_back_twice(self, store: Store) -> None:
        whole = insert("t", AT_MS - 1, AT_MS)
        store.insert(whole)
        assert store.put_back(whole, store.prepare(whole)) == 0
        assert store.complete_roll_ups(whole) == 0

    def test_a_new_roll_up_gets_each_row_once_whatever_is_sent_again(self) -> None:
        store = Store(random.Random(1), plan(0, 1, conditions={"upgraded_after": 2}), lambda: 1000)
        store.faults = False
        store.insert(insert("t0", AT_MS - 1, AT_MS))
        store.insert(insert("t1", AT_MS, first=3))
        assert [store.note_take_over() for _ in range(2)] == [False, True]
        store.insert(insert("t1", AT_MS, first=3))
        assert _rolled_up(store.posted_day) == 1
        assert (store.fill(0, 3 * 1024), _rolled_up(store.posted_day)) == (2, 3)
        store.insert(insert("t1", AT_MS, first=3))
        assert (store.fill(0, 3 * 1024), _rolled_up(store.posted_day)) == (0, 3)

    def test_a_later_owner_drops_the_staging_table_of_an_earlier_one(self, store: Store) -> None:
        whole = insert("t", AT_MS)
        earlier, later = store.prepare(whole), store.prepare(whole)
        assert store.put_back(whole, later) == 1
        with pytest.raises(RefusedError):
            store.put_back(whole, earlier)
        assert store.count(REQUESTS, 0, 10**9, 0) == 1


def _rolled_up(sums: dict[Group, list[int]]) -> int:
    return sum(each[0] for each in sums.values())
