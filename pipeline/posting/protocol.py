"""The worker's protocol: the order of steps that takes a partition over, and that of a unit of work.

Owns: those two orders, what goes to which topic, and the comparison of state and journal at start. Pure.
Called by: `worker/partition.py`, which takes the steps with a real Kafka, and the simulation in
`tests/simulation`, which takes them with a model of one and ends at any of them.
Next: `posting/unit.py`, `posting/requests.py` and `posting/commands.py` decide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from pipeline import topics
from pipeline.accounts.authentication import CommandKeys
from pipeline.accounts.promos import PromoTable
from pipeline.catalog.rates import RateTable
from pipeline.gateway_book import GatewayBook
from pipeline.identity import DeploymentIdentity, MixedHistoriesError, check_name, of_headers
from pipeline.journal import read_headers
from pipeline.posting import beside_journal, progress
from pipeline.posting.commands import (
    catalog_offset_needed,
    gateways_offset_needed,
    post_commands,
    promos_offset_needed,
    read_commands,
)
from pipeline.posting.requests import REST_EVERY, post_requests
from pipeline.posting.state import PartitionState, StateError
from pipeline.posting.unit import InputRecord, Unit, UnitOutput, check_stamps, close, fresh
from pipeline.steps import (
    NOTHING_ACCEPTED,
    Commit,
    ConfirmOwner,
    Fence,
    Headers,
    LastHeaders,
    Now,
    Output,
    Reached,
    Restore,
    Step,
    TopicIds,
    TopicPlace,
    takes_another,
)

T = TypeVar("T")


OWN_TOPICS = (*topics.INPUTS, topics.JOURNAL, topics.STATE)
"""The topics that have to be the ones that a partition's last owner had."""


@dataclass(frozen=True)
class AwaitCatalog(Step[None]):
    """Wait until rates, promo codes and gateways have been read up to these offsets, which commands name."""

    catalog_offset: int
    promos_offset: int
    gateways_offset: int


@dataclass(frozen=True)
class Decide(Step[None]):
    """Run this decision to its end, with rates that are fresh. At each of its pauses others may have a turn."""

    decision: Iterator[None]


WorkerStep: TypeAlias = (
    Fence | Restore | TopicIds | LastHeaders | ConfirmOwner | Commit | Now | Reached | AwaitCatalog | Decide
)
WorkerProtocol: TypeAlias = Generator[WorkerStep, Any, T]


@dataclass(frozen=True)
class Posted:
    """A unit of work that has happened: the unit, and what was committed of it."""

    unit: Unit
    output: UnitOutput

    @property
    def has_more(self) -> bool:
        """Whether it left records of its batch: they are the next unit's, which is given the same batch."""
        return self.unit.has_more


def take_over(
    deployment: str, partition: int, partitions: int, accepted: Mapping[str, str] = NOTHING_ACCEPTED
) -> WorkerProtocol[PartitionState]:
    """Become the one owner of a deployment's partition and return its state, which says where to read on.

    `accepted` holds the ids of topics, by name, that an operator lets stand in for those that were read: they are
    read from their beginning. Raises StateError where the state does not fit, NewerFormatError where a newer
    release wrote it, AnotherTopicError where a topic is another one than the last owner had, MixedHistoriesError
    where state or journal are of another deployment, and what the steps raise.
    """
    # 1. From here on no earlier owner writes.
    yield from Fence()
    # 2. So what is read now is the whole truth.
    records = yield from Restore(TopicPlace(topics.STATE, partition))
    state = PartitionState.restored(partition, partitions, records)
    # 3. Its offsets are those of the very topics that were read, not only of their names; and a state topic that was made
    #    anew under a worker holds only what was changed since.
    ids = yield from TopicIds(OWN_TOPICS)
    has_another = note_topics(state, ids, accepted)
    # 4. State and journal are of this deployment, and end with the same unit.
    last = yield from LastHeaders(TopicPlace(topics.JOURNAL, partition))
    is_new = note_identity(state, deployment, last, ids.get(topics.JOURNAL, ""))
    difference = state_against_journal(state, last)
    if difference is not None:
        # A later owner may have gone on during the restore: then this raises.
        yield from ConfirmOwner(TopicPlace(topics.STATE, partition))
        raise StateError(difference)
    if is_new:
        yield from _enter(state)
    elif has_another:
        # Not with the next unit: where none comes, the next owner would stop again.
        yield from Commit({TopicPlace(topics.STATE, partition): [Output(*state.save_meta())]})
    # 5. What rows do not tell is kept a second time; all of it again where the last owner did not keep it.
    beside = TopicPlace(topics.BESIDE_JOURNAL, partition)
    if not beside_journal.is_complete(state, (yield from LastHeaders(beside))):
        there = yield from Restore(beside)
        for part in beside_journal.whole(state, records, there):
            yield from Commit({beside: part})
    yield from Reached("worker.restored")
    return state


def note_identity(state: PartitionState, deployment: str, last: Headers | None, journal_id: str) -> bool:
    """Note which deployment the partition is of; return whether that was not known, as of a release before or nobody.

    `last` are the headers of the journal's last record, `journal_id` its topic's id. Raises MixedHistoriesError where
    state or journal are of another deployment than this process, or of two.
    """
    of_journal = of_headers(last)
    for found in state.identities:
        check_name(deployment, f"{topics.STATE}/{state.partition}", found)
    check_name(deployment, f"{topics.JOURNAL}/{state.partition}", of_journal)
    if not state.identities:
        state.identities.append(of_journal or DeploymentIdentity(deployment, journal_id))
        return True
    if of_journal is not None and not of_journal.is_of(state.identities[0]):
        raise MixedHistoriesError(
            f"{topics.STATE}/{state.partition} is of the deployment {state.identities[0]}, but "
            f"{topics.JOURNAL}/{state.partition} is of {of_journal}: nothing was written. Restore both topics from one "
            "source and to the same moment: see docs/operations.md, «Two histories»."
        )
    return False


def _enter(state: PartitionState) -> WorkerProtocol[None]:
    """Write which deployment a partition is of, for the first time. Raises MixedHistoriesError where another does too.

    Whoever enters writes a record of its own and then looks whether there is another: so of two at once none or one
    goes on, never both.
    """
    place = TopicPlace(topics.STATE, state.partition)
    [mine] = state.identities
    record = Output(*state.identity_record(mine))
    yield from Commit({place: [Output(*state.save_meta()), record]})
    records = yield from Restore(place)
    for other in PartitionState.restored(state.partition, state.partitions, records).identities:
        if other.name != mine.name:
            yield from Commit({place: [Output(record.key, None)]})
            check_name(mine.name, f"{place.topic}/{place.partition}", other)


def note_topics(state: PartitionState, found: Mapping[str, str], accepted: Mapping[str, str]) -> bool:
    """Note the ids of a partition's topics, which the next unit keeps; return whether another topic was accepted.

    An input that is another one is read from its beginning.

    Raises AnotherTopicError where one is another topic and not accepted.
    """
    meta = state.meta
    others = [
        name
        for name, topic_id in found.items()
        if takes_another(name, meta.topic_ids.get(name), topic_id, accepted)
    ]
    meta.offsets.update((name, 0) for name in others if name in topics.INPUTS)
    meta.topic_ids.update(found)
    return bool(others)


def unit_of_work(
    state: PartitionState,
    rates: RateTable,
    promos: PromoTable,
    keys: CommandKeys,
    topic: str,
    records: Sequence[InputRecord],
    *,
    gateways: GatewayBook | None = None,
    rest_every: int = REST_EVERY,
) -> WorkerProtocol[Posted | None]:
    """Carry out one unit of work; return what happened, None where the state had seen all records before.

    Raises FutureStampError at a record that cannot be of this time, and what the steps raise.
    `gateways` says whose sources are bound to a key; without it none is.
    A decision about requests pauses after every `rest_every` events or so. After any error memory is ahead of
    Kafka: the owner must end.
    """
    # 1. Only what the state has not seen yet.
    fresh_records = fresh(state, records)
    if not fresh_records:
        return None
    # 2. The time of posting follows the broker's time stamps, as long as these can be.
    to_post = [r for r in fresh_records if (r.topic, r.offset) not in state.set_aside]
    check_stamps(to_post, (yield from Now()))
    # 3. Decide: pure, in memory.
    unit = Unit(state, rates, promos=promos)
    if gateways is not None:
        unit.gateways = gateways
    try:
        if topic == topics.BILLING:
            commands = read_commands(unit, fresh_records, keys)
            yield from AwaitCatalog(
                catalog_offset_needed(commands),
                promos_offset_needed(commands),
                gateways_offset_needed(commands),
            )
            post_commands(unit, commands)
        else:
            moved = topic == topics.MOVED
            yield from Decide(post_requests(unit, fresh_records, moved=moved, rest_every=rest_every))
    except Exception as error:
        if unit.in_hand is not None:
            # Whoever reads the log has to know which record it was.
            error.add_note(f"at {topic}/{state.partition}, offset {unit.in_hand.offset}")
        raise
    output = close(unit)
    yield from Reached("worker.decided")
    # 4. Everything it comes to, in one transaction. After this the unit has happened.
    yield from Commit(outputs_of(state, output), counts=output.counts)
    yield from Reached("worker.committed")
    # 5. Only counting is left, which is for the caller.
    return Posted(unit, output)


def tell_progress(state: PartitionState) -> WorkerProtocol[None]:
    """Tell gateways how far the verdicts count, if that is not told; between units, when none follows for a while."""
    records = [Output(*record) for record in progress.record(state, beside_verdicts=True)]
    if records:
        yield from Commit({TopicPlace(topics.VERDICTS, state.partition): records})


def outputs_of(state: PartitionState, output: UnitOutput) -> dict[TopicPlace, list[Output]]:
    """Return what a unit of a partition writes, by the topic and partition it goes to."""
    partition, whose = state.partition, [identity.header() for identity in state.identities]
    here: dict[str, list[Output]] = {
        topics.STATE: [Output(key, value) for key, value in output.state],
        topics.BESIDE_JOURNAL: beside_journal.of_unit(state, output.state, output.alerts),
        topics.JOURNAL: [
            Output(None, record.value, [*record.headers(), *whose]) for record in output.journal
        ],
        topics.VERDICTS: [Output(key, value) for key, value in output.verdicts],
        topics.KEYS: [Output(key, value) for key, value in output.keys],
        topics.ORDERS: [Output(key, value) for key, value in output.orders],
        topics.MAIL: [Output(key, value) for key, value in output.mail],
        topics.WEBHOOKS: [Output(key, value) for key, value in output.webhooks],
        topics.REPLIES: [Output(None, reply) for reply in output.replies],
        topics.DEAD_LETTERS: [Output(None, letter.value, letter.headers) for letter in output.dead_letters],
    }
    outputs = defaultdict(list, {TopicPlace(topic, partition): records for topic, records in here.items()})
    for moved in output.moved:
        outputs[TopicPlace(topics.MOVED, moved.partition)].append(Output(None, moved.value, moved.headers))
    return outputs


def state_against_journal(state: PartitionState, last: Headers | None) -> str | None:
    """Return what is wrong where state and journal do not end with the same unit, None where they do.

    `last` are the headers of the journal's last committed record, None where it has none.
    """
    in_journal = 1 if last is None else read_headers(last, b"").last + 1
    in_state = state.meta.position
    if in_state == in_journal:
        return None
    behind = "state" if in_state < in_journal else "journal"
    return (
        f"partition {state.partition}: the {behind} topic lost records: the state's next position is "
        f"{in_state}, the journal's {in_journal}. Restore {topics.STATE} and {topics.JOURNAL} to the "
        "same moment before you start a worker: see docs/operations.md."
    )
