"""A partition's state: restored from its records it is the same."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from pipeline import ist
from pipeline.accounts.commands import ChangeKey, CreateKey, Credit, SignUp
from pipeline.events import LATE_MS
from pipeline.formats import STATE, NewerFormatError
from pipeline.money import NANO_PER_RUPEE
from pipeline.posting.state import META_KEY, PartitionState, StateError
from tests.support.builders import COST_NANO, NOW_MS, Books, event, everything, packed


def busy_books() -> Books:
    """Return books with accounts, keys, numbered and other sources."""
    books = Books()
    books.send(
        SignUp(id="1", org="org_1", name="A", email="a@example.in"),
        CreateKey(id="2", org="org_1", key_id="key_1", name="n", prefix="p", hash="h", budget_nano=5),
        Credit(id="3", org="संस्था", amount_nano=9, reason="r"),
    )
    books.publish(
        packed(event("a"), event("b", sequence="99999999999999999999"), event("c", subject="org_2"))
    )
    return books


def test_a_state_comes_back_as_it_was() -> None:
    books = busy_books()
    assert everything(books.restore()) == everything(books.state)
    assert len(books.restore()) == len(books.state) == 3


def test_a_restored_state_goes_on_alike() -> None:
    books = busy_books()
    other = busy_books()
    other.state = other.restore()
    for each in (books, other):
        each.publish(packed(event("a"), event("d"), event("e", sequence="1")), packed(event("f")))
    assert everything(other.state) == everything(books.state)
    assert other.topic == books.topic


def test_an_account_that_was_asked_for_is_a_copy() -> None:
    """What counts is what was saved: nobody else can change it, nor does it stay decoded."""
    books = busy_books()
    books.state.account("org_1").spending.debited_nano += 1
    assert everything(books.state) == everything(books.restore())


@pytest.fixture
def format_1() -> dict[bytes, bytes]:
    """The state topic as release 0.1 wrote it: three orgs, two keys with limits, a trial key, a credit."""
    path = Path(__file__).with_name("state_format_1.json")
    records: dict[str, str] = json.loads(path.read_text())
    return {bytes.fromhex(key): bytes.fromhex(value) for key, value in records.items()}


def test_a_state_of_format_1_is_read(format_1: dict[bytes, bytes]) -> None:
    state = PartitionState.restored(0, 1, format_1)
    asha, trial = state.account("org_1"), state.account("org_3")
    assert state.orgs() == {"org_1", "org_2", "org_3", "संस्था"}
    assert (asha.profile.name, asha.profile.email) == ("Asha", "asha@example.in")
    assert asha.profile.keys["key_1"].hash == "0123456789abcdef" * 4
    assert (asha.profile.keys["key_1"].budget_nano, asha.profile.keys["key_2"].daily_limit) == (
        5 * COST_NANO,
        3,
    )
    assert asha.spending.balance_nano == 10**15 + 100 * NANO_PER_RUPEE - 4 * COST_NANO
    day = ist.day_of(NOW_MS) - 1
    assert {key_id: usage.days for key_id, usage in asha.spending.keys.items()} == {
        "key_1": {day: 2},
        "key_2": {day: 2},
    }
    assert trial.spending.keys["key_1"].trial
    assert state.account("संस्था").spending.balance_nano == 9
    assert state.sources.last == {"gateway/mum-1": 99999999999999999999}


def test_a_state_of_format_1_goes_on_and_is_rewritten_as_it_is_touched(format_1: dict[bytes, bytes]) -> None:
    """Its limits count although their copy beside the spending is not there yet."""
    books = Books()
    books.state, books.topic = PartitionState.restored(0, 1, format_1), dict(format_1)
    books.next_offset |= books.state.meta.offsets
    outcome = books.publish(packed(event("f"), event("g"), event("h")))
    [(org, verdict)] = outcome.verdicts[:-1]
    assert (org, b"budget_exceeded" in verdict) == (b"org_1", True)
    untouched = {b"borg_2", b"borg_3", "bसंस्था".encode(), b"porg_1"}
    changed = {key for key, value in books.topic.items() if format_1.get(key) != value}
    assert changed & untouched == set()
    assert {b"borg_1", META_KEY} <= changed
    assert everything(books.restore()) == everything(books.state)
    assert books.restore().meta.format == STATE.number
    books.send(ChangeKey(id="9", org="org_1", key_id="key_2", name="renamed"))
    assert books.topic[b"porg_1"] != format_1[b"porg_1"]
    assert books.restore().account("org_1").profile.keys["key_1"].hash == "0123456789abcdef" * 4


def test_idle_sources_are_forgotten_once_a_day_in_the_topic_too() -> None:
    books = Books()
    books.publish(packed(event("a", source="old", sequence="1")))
    later = NOW_MS + LATE_MS + 3 * ist.DAY_MS
    books.publish(packed(event("b", source="new", sequence="1", time="2026-07-19T00:00:00Z")), at_ms=later)
    assert set(books.state.sources.last) == {"new"}
    assert everything(books.restore()) == everything(books.state)


def test_only_the_requests_own_time_tells_which_sources_are_idle() -> None:
    """After an outage commands of today are posted before requests of long ago, which may come twice."""
    books = Books()
    request = packed(event("a", source="gateway", sequence="1"))
    books.publish(request)
    books.send(Credit(id="1", org="org_1", amount_nano=1, reason="r"), at_ms=NOW_MS + 2 * LATE_MS)
    assert books.publish(request, at_ms=NOW_MS + 1000).counts["duplicates"] == 1


def test_another_partition_count_is_refused() -> None:
    books = busy_books()
    with pytest.raises(StateError, match="partitions"):
        PartitionState.restored(0, 2, dict(books.topic))


def test_a_newer_format_is_refused_whatever_else_it_has() -> None:
    books = busy_books()
    newer = msgspec.msgpack.encode({"format": STATE.number + 1, "partitions": "one", "and": 1})
    with pytest.raises(NewerFormatError, match=r"state\.accounts: .*which a newer release wrote"):
        PartitionState.restored(0, 1, {**books.topic, b"zzz": b"", META_KEY: newer})


def test_a_field_that_would_be_lost_with_the_next_unit_is_refused() -> None:
    books = busy_books()
    more = {**msgspec.msgpack.decode(books.topic[META_KEY]), "more": 1}
    with pytest.raises(msgspec.ValidationError, match="more"):
        PartitionState.restored(0, 1, {META_KEY: msgspec.msgpack.encode(more)})


def test_an_unknown_record_is_refused() -> None:
    with pytest.raises(StateError, match="unknown"):
        PartitionState.restored(0, 1, {b"zzz": b""})


def test_an_empty_topic_is_an_empty_state() -> None:
    assert everything(PartitionState.restored(3, 8, {})) == everything(PartitionState(3, 8))
