"""A partition's state: restored from its records it is the same."""

from __future__ import annotations

import pytest

from pipeline import ist
from pipeline.accounts.commands import CreateKey, Credit, SignUp
from pipeline.events import LATE_MS
from pipeline.posting import state as state_module
from pipeline.posting.state import META_KEY, PartitionState, StateError
from tests.support.builders import NOW_MS, Books, event, everything, packed


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


def test_busy_accounts_are_let_go_of_without_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "LIVE_ACCOUNTS_MAX", 2)
    books, all_live = Books(), Books()
    for n in range(20):
        value = packed(event(str(n), subject=f"org_{n % 5}"))
        books.publish(value)
    monkeypatch.setattr(state_module, "LIVE_ACCOUNTS_MAX", 10_000)
    for n in range(20):
        all_live.publish(packed(event(str(n), subject=f"org_{n % 5}")))
    assert everything(books.state) == everything(all_live.state)


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


def test_a_newer_format_is_refused() -> None:
    books = busy_books()
    books.state.meta.format += 1
    key, value = books.state.save_meta()
    assert key == META_KEY
    assert value is not None
    with pytest.raises(StateError, match="format"):
        PartitionState.restored(0, 1, {key: value})


def test_an_unknown_record_is_refused() -> None:
    with pytest.raises(StateError, match="unknown"):
        PartitionState.restored(0, 1, {b"zzz": b""})


def test_an_empty_topic_is_an_empty_state() -> None:
    assert everything(PartitionState.restored(3, 8, {})) == everything(PartitionState(3, 8))
