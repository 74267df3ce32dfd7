"""Where copied records are: whatever holes either cluster's offsets have, who reads on misses no record and meets none twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.mirror.offsets import OffsetMap, Run
from tests.support.builders import EXAMPLES

HOLES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)
"""For each record, how many offsets are skipped before it on either cluster."""


def _placed(holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    source = target = -1
    placed = []
    for of_source, of_target in holes:
        source, target = source + 1 + of_source, target + 1 + of_target
        placed.append((source, target))
    return placed


@EXAMPLES
@given(HOLES)
def test_who_reads_on_has_before_him_exactly_the_records_that_he_had_before_him(
    holes: list[tuple[int, int]],
) -> None:
    placed = _placed(holes)
    offsets = OffsetMap()
    for source, target in placed:
        offsets.add(source, target)
    for next_source in range(placed[-1][0] + 4):
        next_target = offsets.next_offset(next_source)
        assert [t for _, t in placed if t >= next_target] == [t for s, t in placed if s >= next_source]
        assert offsets.exactly(next_source) == dict(placed).get(next_source)
    kept = OffsetMap([Run(*run) for run in offsets.runs])
    middle = placed[len(placed) // 2][0]
    kept.forget_before(middle)
    for next_source in range(middle, placed[-1][0] + 4):
        assert kept.next_offset(next_source) == offsets.next_offset(next_source)


def test_records_without_holes_are_one_run() -> None:
    offsets = OffsetMap()
    for offset in range(1_000):
        offsets.add(offset + 7, offset)
    assert offsets.runs == [Run(7, 0, 1_000)]


def test_where_nothing_was_copied_the_copy_is_read_from_its_beginning() -> None:
    assert OffsetMap().next_offset(500) == 0
