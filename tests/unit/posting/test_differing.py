"""Duplicates that are not what was charged: dropped as ever, and told by kind."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.outcomes import DuplicateKind
from pipeline.partitioning import partition_of
from pipeline.posting import differing, duplicates
from pipeline.posting.differing import LOOKS_A_UNIT, DifferingDuplicate
from pipeline.posting.requests import post_requests
from pipeline.posting.unit import Unit, close, fresh
from pipeline.topics import MOVED, REQUESTS
from tests.support.builders import Books, event, everything, packed

OTHERS: dict[str, tuple[dict[str, Any], DuplicateKind | None]] = {
    "the same": ({}, None),
    "another time stamp of the broker's record only": ({"time": "2026-06-12T18:29:59.123Z"}, None),
    "another org": ({"subject": "org_2"}, DuplicateKind.OTHER_ORG),
    "another model": ({"data__model": "other"}, DuplicateKind.OTHER_CONTENT),
    "other tokens": ({"data__usage__prompt_tokens": 201}, DuplicateKind.OTHER_CONTENT),
    "another tier": ({"data__tier": "trial"}, DuplicateKind.OTHER_CONTENT),
    "another key": ({"data__key_id": "key_2"}, DuplicateKind.OTHER_CONTENT),
}


def _told(books: Books, *values: bytes, topic: str = REQUESTS) -> list[DifferingDuplicate]:
    """Post records in one unit, and return what it says of duplicates."""
    unit = Unit(books.state, books.rates)
    for _ in post_requests(
        unit, fresh(books.state, [books.record(topic, value) for value in values]), moved=topic == MOVED
    ):
        pass
    close(unit)
    assert unit.counts["events"] - unit.counts["duplicates"] == unit.charged + len(unit.moved)
    return unit.differing


@pytest.mark.parametrize("sequence", [None, "7"])
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(("changes", "kind"), OTHERS.values(), ids=OTHERS)
def test_the_same_name_with_other_content_is_told(
    changes: dict[str, Any], kind: DuplicateKind | None, sequence: str | None, *, together: bool
) -> None:
    books = Books()
    first = event("e1", sequence=sequence)
    second = event("e1", sequence=sequence, **changes)
    told = (
        _told(books, packed(first, second))
        if together
        else _told(books, packed(first)) + _told(books, packed(second))
    )
    assert told == ([] if kind is None else [DifferingDuplicate(kind, "gateway/mum-1", "e1")])


def test_a_gateway_that_began_to_count_again_is_told_whether_or_not_its_numbers_were_charged() -> None:
    books = Books()
    assert _told(books, *(packed(event(f"a{n}", sequence=str(n))) for n in range(10, 20))) == []
    told = _told(
        books,
        packed(event("b3", sequence="3")),
        packed(event("b12", sequence="12")),
        packed(event("b20", sequence="20")),
    )
    assert told == [
        DifferingDuplicate(DuplicateKind.NUMBER_FELL, "gateway/mum-1", "b3"),
        DifferingDuplicate(DuplicateKind.NUMBER_FELL, "gateway/mum-1", "b12"),
    ]


def test_what_was_charged_long_ago_is_known_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new owner has seen nothing of it: what was sent again as it was must raise no alarm."""
    books = Books()
    _told(books, *(packed(event(f"a{n}", sequence=str(n))) for n in range(3)))
    monkeypatch.setattr(differing, "KEPT_BYTES", 1)
    books.publish(packed(event("a4", sequence="4")))
    assert _told(books, packed(event("a1", sequence="1"), event("a4", sequence="4"))) == []
    assert _told(books, packed(event("a5", sequence="5"), event("a5", sequence="5"))) == []


def test_a_number_that_is_no_more_remembered_counts_as_one_that_fell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "CHUNK_NUMBERS", 1)
    monkeypatch.setattr(duplicates, "NUMBER_SLOTS", 2)
    monkeypatch.setattr(differing, "KEPT_BYTES", 1)
    books = Books()
    _told(books, *(packed(event(f"a{n}", sequence=str(n))) for n in range(5)))
    assert [told.kind for told in _told(books, packed(event("a0", sequence="0")))] == [
        DuplicateKind.NUMBER_FELL
    ]
    assert _told(books, packed(event("a4", sequence="4"))) == []


def test_an_event_on_the_wrong_partition_raises_no_alarm() -> None:
    books = Books(partition=0, partitions=2)
    away = next(f"org_{n}" for n in range(50) if partition_of(f"org_{n}", 2) == 1)
    value = packed(event("a", subject=away, sequence="1"))
    assert _told(books, value) == []
    assert _told(books, value) == []


def test_of_many_duplicates_in_a_unit_the_first_are_compared() -> None:
    books = Books()
    values = [packed(event(str(n))) for n in range(2 * LOOKS_A_UNIT)]
    _told(books, *values)
    others = [packed(event(str(n), subject="org_2")) for n in range(2 * LOOKS_A_UNIT)]
    assert len(_told(books, *others)) == LOOKS_A_UNIT


def test_what_is_kept_is_bounded_and_no_part_of_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differing, "KEPT_BYTES", 3_000)
    books = Books()
    books.publish(*(packed(event(f"e{n}")) for n in range(50)))
    assert 2_000 < sum(map(len, books.state.recent._values)) == books.state.recent._bytes <= 3_000
    assert everything(books.restore()) == everything(books.state)
