"""Whether state, journal and inputs of a partition end together: by what was read of them, in order."""

from __future__ import annotations

import dataclasses

import pytest

from pipeline import topics
from pipeline.posting.ends import PartitionEnds, differences

WELL = PartitionEnds(
    journal_before=7,
    state_position=7,
    state_offsets={topics.REQUESTS: 30},
    journal_after=7,
    inputs=dict.fromkeys(topics.INPUTS, 40),
    known_ids={topics.STATE: "a", topics.REQUESTS: "b"},
    ids={topics.STATE: "a", topics.REQUESTS: "b"},
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"state_position": 9, "journal_after": 12},  # units went on between the looks
        {"state_position": 7, "journal_after": 12},
        {"state_position": 12, "journal_after": 12},
        {"inputs": {topics.REQUESTS: 30}},
        {"ids": {}},  # brokers that give topics no ids
        {"journal_before": 1, "state_position": 1, "journal_after": 1, "state_offsets": {}},
    ],
)
def test_what_ends_together_is_no_difference(changes: dict[str, object]) -> None:
    assert differences(dataclasses.replace(WELL, **changes)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"state_position": 6},
            "metering.state.accounts lost records: the state's next position is 6, the journal's is 7 to 7",
        ),
        (
            {"state_position": 8},
            "metering.journal lost records: the state's next position is 8, the journal's is 7 to 7",
        ),
        (
            {"inputs": {topics.REQUESTS: 29}},
            "metering.requests ends at 29, but was posted up to 30",
        ),
        (
            {"ids": {topics.STATE: "c"}},
            "metering.state.accounts has the id c, but had a: it was deleted and made anew",
        ),
        (
            {"journal_before": 9, "state_position": 9, "journal_after": 3},
            "metering.journal ended at 9 and now ends at 3",
        ),
    ],
)
def test_each_difference_is_told(changes: dict[str, object], told: str) -> None:
    assert told in differences(dataclasses.replace(WELL, **changes))  # type: ignore[arg-type]
