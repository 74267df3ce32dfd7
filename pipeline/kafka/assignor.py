"""Who of a consumer group gets which partition numbers: each number goes to one member, and stays where it is if it can.

Owns: the sharing out, and what members tell the one that does it. Called by: `kafka/reader.py`, through aiokafka.

All topics that a group reads together are partitioned alike, and whoever has a number has it of every topic that it
reads. So numbers are shared out, not partitions of topics: members that read different topics, as during an upgrade to a
release with one more, never get the same number.

Each member tells which numbers it had, and in which round. The one that the broker lets share out keeps them there, up to
what is fair: as many numbers for each, give or take one. Where two claim a number the later round counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata


class Claim(msgspec.Struct, frozen=True):
    """What a member had: its numbers, and the round in which it got them; 0 where it had none yet."""

    round: int = 0
    numbers: tuple[int, ...] = ()


class _Round(msgspec.Struct, frozen=True):
    """Which round an assignment is of."""

    round: int


def share(numbers: Collection[int], claims: Mapping[str, Claim]) -> dict[str, list[int]]:
    """Return which numbers each member gets, in order: all of them, each once, as many for each, give or take one.

    As few as can be go to another member than had them.
    """
    unclaimed = set(numbers)
    kept: dict[str, list[int]] = {}
    for member, claim in sorted(claims.items(), key=lambda one: (-one[1].round, one[0])):
        kept[member] = [number for number in claim.numbers if number in unclaimed]
        unclaimed.difference_update(kept[member])
    each, more = divmod(len(numbers), len(claims))
    shared: dict[str, list[int]] = {}
    # Those that had most may have one more than the others: so nobody gives one up for no reason.
    for place, member in enumerate(sorted(kept, key=lambda one: (-len(kept[one]), one))):
        fair = each + (place < more)
        shared[member] = sorted(kept[member])[:fair]
        unclaimed.update(sorted(kept[member])[fair:])
    left = sorted(unclaimed)
    for place, member in enumerate(shared):
        lacks = each + (place < more) - len(shared[member])
        shared[member] = sorted(shared[member] + left[:lacks])
        left = left[lacks:]
    return shared


class StickyNumbers(AbstractPartitionAssignor):  # type: ignore[misc]  # aiokafka is published without types
    """aiokafka's assignor of one member. Unlike aiokafka's own it is an object: two members may live in one process.

    It goes by the name of Kafka's Range assignor. A group needs a name that all its members know, and those of earlier
    releases know only that one; what is told to members is the same in both. Whoever shares out decides how.
    """

    name = "range"
    version = 0

    def __init__(self) -> None:
        """Start with nothing had."""
        self.claim = Claim()
        self.follows = False
        """Whether the last assignment is of the round after the one before: nobody else had these numbers meanwhile."""

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Return what this member tells whoever shares out: the topics it reads, and what it had."""
        return ConsumerProtocolMemberMetadata(self.version, list(topics), msgspec.json.encode(self.claim))

    def assign(
        self, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Share out: called at the member that the broker has chosen for it."""
        claims = {member: _claim_of(metadata.user_data) for member, metadata in members.items()}
        of_topic = {
            topic: cluster.partitions_for_topic(topic) or set()
            for metadata in members.values()
            for topic in metadata.subscription
        }
        shared = share(set().union(*of_topic.values()), claims)
        this_round = msgspec.json.encode(_Round(1 + max(claim.round for claim in claims.values())))
        return {
            member: ConsumerProtocolMemberAssignment(
                self.version,
                [
                    (topic, [number for number in shared[member] if number in of_topic[topic]])
                    for topic in sorted(metadata.subscription)
                ],
                this_round,
            )
            for member, metadata in members.items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Note what this member has from now on. A member of an earlier release that shares out names no round."""
        numbers = sorted({place.partition for place in assignment.partitions()})
        try:
            found = msgspec.json.decode(assignment.user_data, type=_Round).round
        except msgspec.MsgspecError:
            self.claim, self.follows = Claim(0, tuple(numbers)), False
        else:
            self.follows = found == self.claim.round + 1
            self.claim = Claim(found, tuple(numbers))


def _claim_of(user_data: bytes) -> Claim:
    """Return what a member tells; nothing for one of an earlier release."""
    try:
        return msgspec.json.decode(user_data, type=Claim)
    except msgspec.MsgspecError:
        return Claim()
