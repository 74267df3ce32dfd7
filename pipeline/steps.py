"""The steps that a protocol asks its driver to take, and how an answer gets its type.

Owns: `Step`, the steps that concern Kafka, and what is written by them. Pure.

A protocol is the order of steps in which a process takes a partition over and does its work. It is written
as a generator without any input or output of its own («sans I/O»): it yields a step, whoever drives it takes
that step and sends the answer back, or throws the error that came of it. The product drives a protocol with
real Kafka, ClickHouse and SMTP (`pipeline/driving.py`), `tests/simulation` with models of them that may stop
at any step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, Self, TypeAlias, TypeVar

from msgspec import Struct

T = TypeVar("T")

Headers = Sequence[tuple[str, bytes]]


class TopicPlace(NamedTuple):
    """A partition of a topic: what aiokafka calls a TopicPartition, without aiokafka."""

    topic: str
    partition: int


class Output(Struct, frozen=True):
    """A record to write, without saying to which topic and partition."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


Outputs = Mapping[TopicPlace, Sequence[Output]]


class Step(Generic[T]):
    """One step of a protocol, whose answer is a `T`: `answer = yield from AStep(...)`."""

    def __iter__(self) -> Generator[Self, T, T]:
        """Ask the driver to take this step, and return its answer."""
        return (yield self)

    def answered(self, answer: T) -> T:
        """Return the driver's answer unchanged: a call through which the type checker sees its type."""
        return answer


class Fence(Step[None]):
    """End every earlier owner's power to write, and abort what it had open."""


@dataclass(frozen=True)
class Restore(Step[dict[bytes, bytes]]):
    """Read a state partition to its end as it is now: the newest value of each key, deleted keys left out."""

    place: TopicPlace


@dataclass(frozen=True)
class LastHeaders(Step[Headers | None]):
    """Read the headers of the last committed record of a partition; None where it has no record."""

    place: TopicPlace


@dataclass(frozen=True)
class TopicIds(Step[Mapping[str, str]]):
    """Ask for the ids of topics by their names; a topic is absent where the brokers give topics no ids.

    A topic that is deleted and made anew has its old name and another id (KIP-516).
    """

    names: tuple[str, ...]


NOTHING_ACCEPTED: Mapping[str, str] = {}
"""No topic may stand in for another one of its name: what is accepted holds ids by name."""


class AnotherTopicError(Exception):
    """A topic is not the one that was read: it was deleted and made anew under its name, or the cluster is another."""


def takes_another(
    name: str, known: str | None, found: str | None, accepted: Mapping[str, str] = NOTHING_ACCEPTED
) -> bool:
    """Whether a topic is another one than was read, and `accepted` to stand in for it: from its beginning, then.

    Either id may be unknown, and says nothing then. Raises AnotherTopicError for another one that is not accepted.
    """
    if known is None or found is None or known == found:
        return False
    if accepted.get(name) == found:
        return True
    raise AnotherTopicError(
        f"{name} has the id {found}, but what was read had the id {known}: the topic was deleted and made anew, or "
        "this is another cluster. Going on where reading ended would pass over what is in it. See "
        "docs/operations.md, «a topic is another one»."
    )


@dataclass(frozen=True)
class Commit(Step[None]):
    """Write the outputs in one Kafka transaction: all of it happens, or nothing.

    Refused to an owner that was fenced. After any error the driver must not go on, as the transaction may
    have happened. `counts` says what is in it, for metrics and accounts.
    """

    outputs: Outputs
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class ConfirmOwner(Step[None]):
    """Have the broker confirm that no later owner has fenced this one; refused to one that was.

    `place` is a compacted partition that the owner writes. A record goes there that means nothing: only writing
    tells, as whoever was fenced can go on reading.
    """

    place: TopicPlace


@dataclass(frozen=True)
class Reached(Step[None]):
    """A named point between two steps, where a test may end the process (`pipeline/crashpoints.py`)."""

    point: str


class Now(Step[int]):
    """Ask for the time, in milliseconds since 1970."""


@dataclass(frozen=True)
class Beginning(Step[int]):
    """Ask for the first offset that a partition still has."""

    place: TopicPlace


@dataclass(frozen=True)
class Taken(Step[None]):
    """The first `count` records at hand are out of their topic for good: forget them."""

    count: int


@dataclass(frozen=True)
class Idle:
    """What a turn returns that found nothing to do before `until_ms`, or before more records come where it is None."""

    until_ms: int | None


OutgoingStep: TypeAlias = Fence | Restore | TopicIds | LastHeaders | Beginning | Commit | Now | Taken
"""The steps of those who send on what a topic holds, mail or webhooks, that concern Kafka."""


class OutgoingRecord(Protocol):
    """What is needed of a record that is sent on; `timestamp` is in milliseconds."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""

    @property
    def timestamp(self) -> int:
        """When it came in, in milliseconds."""

    @property
    def value(self) -> bytes | None:
        """Its bytes."""
