"""Drive the product's own protocols over the models, stopping wherever a process may end.

Owns: the loop, and the model of `pipeline/kafka/fenced.py` that all protocols write through.
Called by: `worker.py`, `sink.py`, `mail.py`, `redriver.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pipeline.steps import Commit, Output, TopicPlace
from pipeline.topics import OWNER_KEY
from tests.simulation.kafka import Log, Producer, UnclearError

if TYPE_CHECKING:
    from tests.simulation.world import World

S = TypeVar("S")
T = TypeVar("T")

Stops = Generator[str, None, T]
"""Yields the name of each place where the process may end, freeze or be overtaken; returns an answer."""


class Holder(Protocol):
    """Who writes, as the group knows it."""

    producer: Producer | None


def drive(protocol: Generator[S, Any, T], take: Callable[[S], Stops[object]]) -> Stops[T]:
    """Run a protocol to its end and return what it returns; `take` takes one step and returns the answer."""
    try:
        step = next(protocol)
        while True:
            try:
                answer = yield from take(step)
            except Exception as error:  # noqa: BLE001 - the protocol decides what of it is an end
                step = protocol.throw(error)
            else:
                step = protocol.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


class FencedLogModel:
    """A partition's transactional log: fencing, restoring and committing over the model of Kafka."""

    def __init__(self, world: World, holder: Holder, transactional_id: str, role: str) -> None:
        """Prepare. `role` names the stops."""
        self._world, self._holder = world, holder
        self._broker, self._rng, self._rules = world.broker, world.rng, world.plan.rules
        self._id, self._role = transactional_id, role
        self._producer: Producer
        self._known_end: dict[TopicPlace, int] = {}

    def fence(self, *restored: TopicPlace) -> Stops[None]:
        """Start the producer. `restored` is what a mistaken owner asks for the ends of beforehand."""
        if self._rules.restore_end == "before fencing":
            for place in restored:
                self._known_end[place] = self._broker.log(*place).stable_end
            yield f"{self._role}.restoring"
        self._holder.producer = self._producer = self._broker.start_producer(self._id)
        yield f"{self._role}.fenced"

    def restore(self, place: TopicPlace) -> Stops[dict[bytes, bytes]]:
        """Return the newest value of each key, read some records at a time."""
        log, at_a_time = self._broker.log(*place), self._world.plan.restore_max
        end = log.stable_end if self._rules.read_committed else log.next_offset
        end = self._known_end.get(place, end)
        found: dict[bytes, bytes] = {}
        at = 0
        while at < end:
            if self._rules.restore_end == "short" and at and at + at_a_time >= end:
                break
            records, at = log.read(at, at_a_time, committed=self._rules.read_committed)
            for record in records:
                assert record.key is not None
                if record.value is None:
                    found.pop(record.key, None)
                else:
                    found[record.key] = record.value
            yield f"{self._role}.restoring"
        return found

    def commit(self, step: Commit) -> Stops[None]:
        """Write it all in one transaction. Raises FencedError, or UnclearError where an answer is lost."""
        self._producer.begin(step.counts)
        self._broker.receive()
        yield from self._send(step)
        yield f"{self._role}.sent"
        try:
            self._producer.commit()
        except UnclearError:
            if self._rules.after_unclear == "end":
                raise
            self._broker.expire(self._producer)
            yield from self.commit(step)

    def confirm_owner(self, place: TopicPlace) -> Stops[None]:
        """Write a record that means nothing. Raises FencedError where a later owner has started its producer."""
        yield from self.commit(Commit({place: [Output(OWNER_KEY, None)]}))

    def _send(self, step: Commit) -> Iterator[str]:
        writes: list[tuple[Log, Output]] = [
            (self._broker.log(*place), output)
            for place, outputs in step.outputs.items()
            for output in outputs
        ]
        several = len(writes) > 1
        if several and self._rng.random() < 0.5:
            # The partitions' requests are under way together; each partition keeps its order.
            self._rng.shuffle(order := list(dict.fromkeys(log for log, _ in writes)))
            writes.sort(key=lambda write: order.index(write[0]))
        pause = self._rng.randrange(len(writes) + 1) if several and self._rng.random() < 0.5 else -1
        for number, (log, output) in enumerate(writes):
            if number == pause:
                yield f"{self._role}.sending"
            self._producer.send(log, output.key, output.value, output.headers)
