"""What of a round is held back: everything of a unit whose state is not in it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pipeline import topics
from pipeline.mirror.reading import without_newer
from pipeline.steps import Headers


@dataclass
class _Found:
    """A record as the reader sees it."""

    topic: str
    timestamp: int
    offset: int = 0
    headers: Headers = ()


def _journal(first: int, last: int, at_ms: int) -> _Found:
    headers = [
        ("kind", b"requests"),
        ("first", str(first).encode()),
        ("last", str(last).encode()),
        ("format", b"2"),
    ]
    return _Found(topics.JOURNAL, at_ms, headers=headers)


@pytest.mark.parametrize(("newer_ms", "kept"), [(None, 3), (40, 3), (30, 2), (11, 1), (10, 0)])
def test_what_is_as_new_as_the_first_state_beyond_the_cut_is_held_back(
    newer_ms: int | None, kept: int
) -> None:
    records = [_Found(topics.DEAD_LETTERS, at_ms) for at_ms in (10, 20, 30)]
    assert without_newer(records, newer_ms, 1) == records[:kept]


@pytest.mark.parametrize(("position", "kept"), [(1, 0), (5, 1), (8, 2), (9, 2)])
def test_rows_at_or_beyond_the_position_of_the_state_are_held_back(position: int, kept: int) -> None:
    records = [_journal(1, 4, 10), _journal(5, 7, 10), _journal(9, 9, 10)]
    assert without_newer(records, None, position) == records[:kept]


def test_nothing_after_what_is_held_back_is_copied() -> None:
    """Clocks may step back: a partition is copied in its order all the same."""
    records = [_Found(topics.MAIL, at_ms) for at_ms in (10, 40, 20)]
    assert without_newer(records, 30, 1) == records[:1]
