"""What was found out about a deployment, and what could not be, with the reason.

Owns: the shape of it. Pure. Called by: `status/brokers.py` and `status/places.py`, which find it out,
`status/judged.py` and `status/screen.py`, which tell it.

Nothing here is a guess: what could not be asked is `Unknown`, so that no reader takes it for a zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Unknown:
    """What could not be found out, and why, in one line for a person."""

    why: str


@dataclass(frozen=True)
class ConsumerGroup:
    """A role's consumer group as its coordinator sees it: Kafka's word for its state, its members, and what they have."""

    state: str
    members: int
    partitions: frozenset[int]
    """The partitions that some member has."""


@dataclass(frozen=True)
class Backlog:
    """What a role has not done yet: offsets by partition, and how old the first record is that waits, in milliseconds.

    Offsets count the markers of transactions too. A partition on which nothing but markers waits has no age.
    """

    offsets: Mapping[int, int]
    oldest_ms: Mapping[int, int]

    @property
    def total(self) -> int:
        """Offsets of all partitions."""
        return sum(self.offsets.values())

    @property
    def longest_ms(self) -> int:
        """The age of the oldest record that waits, 0 where none does."""
        return max(self.oldest_ms.values(), default=0)


@dataclass(frozen=True)
class LetterCount:
    """Dead letters of the last 24 hours by reason; `is_whole` is off where reading them all would have taken too long."""

    by_reason: Mapping[str, int]
    is_whole: bool


@dataclass(frozen=True)
class OrderCount:
    """Orders of the last 7 days that nobody has paid; `is_whole` as for dead letters."""

    unpaid: int
    is_whole: bool


@dataclass(frozen=True)
class LastVerify:
    """What the last `metering verify` that came to its end found, and when it ended, in milliseconds since 1970."""

    ended_ms: int
    differences: int


@dataclass(frozen=True)
class KafkaFound:
    """What the brokers know. Groups and backlogs are by role.

    `posted` are the rows that the journal got in the last minute, `signed_through` is the last IST day that the notary has
    signed. What has never been is None.
    """

    brokers: int
    partitions: int
    groups: Mapping[str, ConsumerGroup | Unknown]
    backlogs: Mapping[str, Backlog | Unknown]
    posted: int | Unknown
    dead_letters: LetterCount | Unknown
    orders: OrderCount | Unknown
    verified: LastVerify | Unknown | None
    signed_through: str | Unknown | None


@dataclass(frozen=True)
class RoleFound:
    """What a role says of itself at its address: each of its parts, `ok` or what is wrong."""

    name: str
    url: str
    parts: Mapping[str, str] | Unknown


@dataclass(frozen=True)
class DeploymentFound:
    """All of it, as of an instant. `debited_nano` is what the requests of the IST day of that instant were debited."""

    at_ms: int
    deployment: str
    kafka: KafkaFound | Unknown
    debited_nano: int | Unknown
    roles: Sequence[RoleFound]
