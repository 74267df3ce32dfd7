"""Who gets which partition numbers: each one once, fairly, and no more moves than must."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kafka.assignor import Claim, StickyNumbers, share

CLAIMS = st.dictionaries(
    st.sampled_from("abcdefg"),
    st.builds(Claim, st.integers(0, 3), st.lists(st.integers(0, 30), unique=True, max_size=31).map(tuple)),
    min_size=1,
)


def _sizes(shared: Mapping[str, list[int]]) -> set[int]:
    return {len(numbers) for numbers in shared.values()}


@given(st.integers(0, 24), CLAIMS)
def test_each_number_goes_to_one_member_and_each_member_has_its_fair_share(
    count: int, claims: dict[str, Claim]
) -> None:
    shared = share(range(count), claims)
    assert shared.keys() == claims.keys()
    assert sorted(number for numbers in shared.values() for number in numbers) == list(range(count))
    assert max(_sizes(shared)) - min(_sizes(shared)) <= 1


@given(st.integers(1, 24), CLAIMS)
def test_a_round_in_which_nobody_came_or_went_moves_nothing(count: int, claims: dict[str, Claim]) -> None:
    shared = share(range(count), claims)
    again = share(range(count), {member: Claim(9, tuple(numbers)) for member, numbers in shared.items()})
    assert again == shared


@given(st.integers(1, 24), st.integers(1, 6))
def test_who_comes_gets_its_share_and_nothing_else_moves(count: int, members: int) -> None:
    before = share(range(count), {f"m{n}": Claim() for n in range(members)})
    claims = {member: Claim(1, tuple(numbers)) for member, numbers in before.items()}
    after = share(range(count), {**claims, "a-new-one": Claim()})
    for member, numbers in before.items():
        assert set(after[member]) <= set(numbers)
    assert sum(len(after[member]) for member in before) == count - len(after["a-new-one"])


@given(st.integers(1, 24), st.integers(2, 6))
def test_what_who_went_had_is_shared_out_and_nothing_else_moves(count: int, members: int) -> None:
    before = share(range(count), {f"m{n}": Claim() for n in range(members)})
    del before["m0"]
    after = share(range(count), {member: Claim(1, tuple(numbers)) for member, numbers in before.items()})
    assert all(set(numbers) <= set(after[member]) for member, numbers in before.items())


def test_of_two_that_claim_a_number_the_later_round_counts() -> None:
    shared = share(range(4), {"away": Claim(5, (0, 1, 2, 3)), "there": Claim(6, (0, 1))})
    assert shared == {"away": [2, 3], "there": [0, 1]}


class Cluster:
    """What an assignor asks of the cluster."""

    def __init__(self, **partitions: int) -> None:
        self.partitions = partitions

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(self.partitions[topic])) if topic in self.partitions else None


def _assigned(
    cluster: Cluster, members: Mapping[str, StickyNumbers | None], topics: Mapping[str, str]
) -> Any:
    """Share out as the first member does; None stands for one of a release that knows only the Range assignor."""
    told = {
        name: (member or RangePartitionAssignor).metadata(topics[name].split())
        for name, member in members.items()
    }
    # As they go over the wire.
    told = {name: ConsumerProtocolMemberMetadata.decode(each.encode()) for name, each in told.items()}
    [leader, *_] = members.values()
    found = (leader or RangePartitionAssignor).assign(cast(Any, cluster), told)
    for name, assignment in found.items():
        decoded = ConsumerProtocolMemberAssignment.decode(assignment.encode())
        (members[name] or RangePartitionAssignor).on_assignment(decoded)
    return {
        name: {topic: list(numbers) for topic, numbers in each.assignment} for name, each in found.items()
    }


def test_members_that_read_different_topics_never_get_the_same_number() -> None:
    """An upgrade to a release that reads one more topic: with the Range assignor both would have number 2 of something."""
    cluster = Cluster(a=4, b=4)
    new: dict[str, StickyNumbers | None] = {
        "m1": StickyNumbers(),
        "m2": StickyNumbers(),
        "m3": StickyNumbers(),
    }
    found = _assigned(cluster, new, {"m1": "a", "m2": "a b", "m3": "a b"})
    numbers = {name: {n for of_topic in each.values() for n in of_topic} for name, each in found.items()}
    assert sorted(n for of_member in numbers.values() for n in of_member) == [0, 1, 2, 3]
    for name in ("m2", "m3"):
        assert found[name]["a"] == found[name]["b"]


def test_a_member_knows_whether_anybody_else_may_have_had_its_numbers() -> None:
    cluster, first, second = Cluster(a=4), StickyNumbers(), StickyNumbers()
    topics = {"m1": "a", "m2": "a"}
    _assigned(cluster, {"m1": first}, topics)
    _assigned(cluster, {"m1": first, "m2": second}, topics)
    assert first.follows and not second.follows
    assert first.claim == Claim(2, (0, 1)) and second.claim == Claim(2, (2, 3))
    _assigned(cluster, {"m2": second}, topics)  # the first one is away for a round
    _assigned(cluster, {"m1": first, "m2": second}, topics)
    assert second.follows and not first.follows


def test_members_of_an_earlier_release_take_part_and_may_share_out() -> None:
    cluster, ours, topics = Cluster(a=4), StickyNumbers(), {"old": "a", "new": "a"}
    assert _assigned(cluster, {"old": None, "new": ours}, topics) == {
        "new": {"a": [0, 1]},
        "old": {"a": [2, 3]},
    }
    assert not ours.follows
    found = _assigned(cluster, {"new": ours, "old": None}, topics)
    assert found == {"new": {"a": [0, 1]}, "old": {"a": [2, 3]}}
    assert StickyNumbers.name == RangePartitionAssignor.name
