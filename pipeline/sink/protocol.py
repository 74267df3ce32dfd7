"""The sink's protocol: the order of steps that takes a partition over, writes a range, and puts lost rows back.

Owns: those orders, when an insert is sent again, and when an old range is counted before it is sent. Pure.
Called by: `sink/partition.py`, which takes the steps with a real Kafka and ClickHouse, and the simulation in
`tests/simulation`, which takes them with models of both and ends at any of them.
Next: `sink/ranges.py` has the rules for ranges.

ClickHouse drops an insert whose token it knows. So a range is recorded in Kafka before it is first sent, and
whoever finds it recorded sends exactly it again. Tokens are remembered for a while only: of an older range rows
and roll-ups are looked at first, and what is lacking is added without a token's help. And an engine that is killed
may know the token of rows it has lost: those are looked for after a range was sent more than once, and put back. An
engine whose power was cut may have forgotten the tokens of rows it has, as it does not sync them: where it is known that
nothing is under way to it, rows and roll-ups of the recorded range are looked at before anything is sent, and what is
lacking is added without its token, too.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeAlias, TypeVar

from msgspec import structs

from pipeline import topics
from pipeline.identity import DeploymentIdentity, MixedHistoriesError, check_name, of_headers, parse
from pipeline.inserts import JournalInsert
from pipeline.journal import REQUESTS
from pipeline.sink import histories, ranges
from pipeline.sink.ranges import Intent
from pipeline.sink.steps import (
    AdoptDatabase,
    CompleteRollUps,
    CountRows,
    FillRollUps,
    Insert,
    LookAtDatabase,
    MayHaveLost,
    NotConfirmedError,
    NothingIsUnderWay,
    Pause,
    Placed,
    PrepareStaging,
    PutBack,
    ReadJournal,
    RollUpsLack,
    SinkStep,
)
from pipeline.steps import (
    Commit,
    ConfirmOwner,
    Fence,
    LastHeaders,
    Now,
    Output,
    Reached,
    Restore,
    TopicIds,
    TopicPlace,
    takes_another,
)

T = TypeVar("T")

INTENT_KEY = b"intent"
HOLD_KEY = b"hold"
HELD_LOOK_S = 0.5
"""How often a sink looks whether a rebuild has ended."""
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
SETTLE_S = 65.0
"""After so long no insert is under way any more whose answer got lost: none may take longer than 60 seconds."""


class HeldError(Exception):
    """A rebuild took the partition while this sink did."""


class IntentError(Exception):
    """More rows of a recorded range are in their table than it has."""


SinkProtocol: TypeAlias = Generator[SinkStep, Any, T]


class RangeWriter:
    """Writes the ranges of one partition's journal, one after the other."""

    def __init__(self, deployment: str, partition: int, safe_ms: int) -> None:
        """Prepare. `safe_ms` is for how long a token is surely remembered (`ranges.safe_age_ms`)."""
        self._deployment, self._partition = deployment, partition
        self._state = TopicPlace(topics.SINK_STATE, partition)
        self._safe_ms = safe_ms
        self._topic_id: str | None = None
        self._identity = DeploymentIdentity(deployment)
        self._epoch = ranges.FIRST_EPOCH

    def take_over(self, *, has_hold: bool = False) -> SinkProtocol[int]:
        """Become the one owner of the partition and return the offset of the next record to write.

        `has_hold` says that the hold on the partition, if there is one, is the caller's own: a rebuild finishes the range.

        Raises IntentError, AnotherTopicError where the journal is another topic than the one that was read,
        MixedHistoriesError where journal, database and the last range are not of one history, and what the steps raise.
        """
        # 0. A rebuild that has the partition is waited for: fencing would end it.
        while HOLD_KEY in (state := (yield from Restore(self._state))) and not has_hold:
            hold = ranges.decode_hold(state[HOLD_KEY])
            yield from Pause(HELD_LOOK_S, f"`{hold.work}` is under way; if it was ended, run it again")
        # 1. From here on no earlier owner records a range.
        yield from Fence()
        # 2. The last range that was recorded: its owner may have ended before, while or after it was written.
        state = yield from Restore(self._state)
        if HOLD_KEY in state and not has_hold:
            raise HeldError(f"{self._state.topic}/{self._partition} is held by a rebuild that has just begun")
        self._topic_id = (yield from TopicIds((topics.JOURNAL,))).get(topics.JOURNAL)
        intent = ranges.decode(state[INTENT_KEY]) if INTENT_KEY in state else None
        if intent is not None:
            takes_another(topics.JOURNAL, intent.topic_id, self._topic_id)
            self._epoch = intent.epoch
        yield from self.identify(intent)
        # 3. The database is of the same history, and ends within that range. Only then is anything written.
        if intent is None or not intent.parts:
            position = 1 if intent is None else intent.position
            yield from self.compare(position, position - 1)
            yield from self.fill_roll_ups(position - 1)
            return 0 if intent is None else intent.next_offset
        # Parts that were found written are not in it any more, but their rows are in its records.
        records = yield from read_journal(intent)
        yield from self.compare(records[0][1].first, records[-1][1].last)
        # 4. It is finished, exactly as it was cut.
        is_settled = yield from NothingIsUnderWay()
        yield from self.insert(intent, records, sent_before=True, is_settled=is_settled)
        yield from self.fill_roll_ups(records[-1][1].last)
        return next_offset_after(intent)

    def fill_roll_ups(self, last: int) -> SinkProtocol[None]:
        """Return once every roll-up has the partition's rows up to a position, also one that was made after they were written.

        Only here is it known that none of them is under way. What is after them is a later owner's, and is left to its
        tokens. Raises what the steps raise.
        """
        unconfirmed = 0
        while True:
            try:
                yield from FillRollUps(last)
            except NotConfirmedError as error:
                yield from Pause(RETRY_S[min(unconfirmed, len(RETRY_S) - 1)], str(error), error.is_refusal)
                yield from ConfirmOwner(self._state)
                unconfirmed += 1
            else:
                return

    def identify(self, intent: Intent | None) -> SinkProtocol[None]:
        """Note whose the journal is. Raises MixedHistoriesError where it is not this deployment's, or not the range's."""
        last = yield from LastHeaders(TopicPlace(topics.JOURNAL, self._partition))
        kept = parse(intent.deployment) if intent is not None and intent.deployment else None
        of_journal = of_headers(last)
        check_name(self._deployment, f"{topics.JOURNAL}/{self._partition}", of_journal)
        check_name(self._deployment, f"{topics.SINK_STATE}/{self._partition}", kept)
        self._identity = of_journal or kept or DeploymentIdentity(self._deployment, self._topic_id or "")
        histories.check_journal(self._partition, kept, self._identity)

    def compare(self, first: int, last: int) -> SinkProtocol[None]:
        """Return once the database is known to be of this history, and says so. Raises MixedHistoriesError.

        `first` to `last` are the positions of the range that was recorded last: 1 to 0 before any was.
        """
        unconfirmed = 0
        while True:
            try:
                found = yield from LookAtDatabase(first, last)
                try:
                    is_adopted = histories.is_adopted(self._identity, self._epoch, found)
                    histories.check_rows(self._partition, first, last, found)
                except MixedHistoriesError:
                    # A later owner may have gone on before the look, with rows of its own: then this raises.
                    yield from ConfirmOwner(self._state)
                    raise
                if is_adopted:
                    return
                # Whoever enters looks again: of two deployments at once none or one goes on.
                yield from AdoptDatabase(self._identity, self._epoch)
            except NotConfirmedError as error:
                yield from Pause(RETRY_S[min(unconfirmed, len(RETRY_S) - 1)], str(error), error.is_refusal)
                unconfirmed += 1

    def write(self, records: Sequence[Placed]) -> SinkProtocol[None]:
        """Write these records of the journal, which follow on the last range: one range, or one for each format."""
        for of_one_format in ranges.by_format(records):
            # 1. Cut the range, and record it: from here on it is this range or none.
            now_ms = yield from Now()
            intent = structs.replace(
                ranges.cut(of_one_format, now_ms, self._topic_id),
                deployment=str(self._identity),
                epoch=self._epoch,
            )
            yield from self.record(intent)
            yield from Reached("sink.recorded")
            # 2. Write it, again and again until the answer is clear. The next range waits.
            yield from self.insert(intent, of_one_format)
            yield from Reached("sink.inserted")

    def record(self, intent: Intent) -> SinkProtocol[None]:
        """Record a range, durably. Refused to an owner that was fenced."""
        yield from Commit({self._state: [Output(INTENT_KEY, ranges.encode(intent))]})

    def insert(
        self,
        intent: Intent,
        records: Sequence[Placed],
        *,
        sent_before: bool = False,
        is_settled: bool = False,
    ) -> SinkProtocol[None]:
        """Send a recorded range part by part, each until the engine confirms it.

        Where any of it was sent more than once, look in the end whether the engine has lost rows of it. Where nothing of
        it is under way (`is_settled`), look first what of it is there: its tokens may be forgotten, however new it is.
        """
        left: Intent | None = intent
        unconfirmed = 0
        while left is not None or sent_before:
            try:
                if left is None:
                    yield from self.put_back(intent, records)
                    return
                now_ms = yield from Now()
                if is_settled or ranges.is_old(left, now_ms, self._safe_ms):
                    left = yield from self.absent_parts(left, records, is_settled=is_settled)
                    is_settled = False
                else:
                    yield from Insert(self._rows(left.parts[0], records))
                    left = ranges.without_first(left)
            except NotConfirmedError as error:
                sent_before = True
                seconds = RETRY_S[min(unconfirmed, len(RETRY_S) - 1)]
                yield from Pause(seconds, str(error), error.is_refusal)
                # A rebuild may have taken the partition meanwhile: what its database lacks is not for this owner.
                yield from ConfirmOwner(self._state)
                unconfirmed += 1
            else:
                unconfirmed = 0

    def absent_parts(
        self, intent: Intent, records: Sequence[Placed], *, is_settled: bool = False
    ) -> SinkProtocol[Intent | None]:
        """Return what of a range still has to be sent, recorded anew; None where all of it is there.

        The range may have been sent long ago, by an earlier owner or, if this one was stopped for long, by
        a later one; recording is refused to a stale owner. A part of which only some is there is completed, once
        nothing of it can be under way; `is_settled` says that this is known. So is one of which nothing is there, where
        the engine was started since: it may know the token all the same. Raises IntentError where more than the part is there.
        """
        # 1. What is there of rows and roll-ups?
        now_ms, states = yield from self.states(intent, records, is_settled=is_settled)
        if ranges.PartState.INCOMPLETE in states.values():
            # 2. Some of it is: an insert that is under way may still add to it, so that has to end first.
            if not is_settled:
                yield from Pause(
                    SETTLE_S, f"the range {intent.first_offset}-{intent.next_offset} is half there"
                )
                now_ms, states = yield from self.states(intent, records, is_settled=False)
            # 3. Completed by a later owner, it is not for this one to complete.
            yield from ConfirmOwner(self._state)
            for part, state in states.items():
                if state is ranges.PartState.INCOMPLETE:
                    yield from self.complete(part, records)
        # 4. What is not there at all is sent, by a token that is remembered from the time of the look on.
        left = ranges.left_of(intent, states, now_ms)
        if left is not None:
            yield from self.record(left)
        return left

    def states(
        self, intent: Intent, records: Sequence[Placed], *, is_settled: bool
    ) -> SinkProtocol[tuple[int, dict[ranges.RangePart, ranges.PartState]]]:
        """Return the time, and how much of each part of a range is there then. Raises IntentError where more than the part is.

        None of a part is not ABSENT but INCOMPLETE where its token may be known though its rows are lost.
        """
        now_ms = yield from Now()
        states = {}
        for part in intent.parts:
            rows = self._rows(part, records)
            found = yield from CountRows(rows)
            if found > part.rows:
                raise IntentError(
                    f"{rows.table} has {found} rows of {rows.token} instead of {part.rows}: see "
                    "docs/operations.md, «More rows than were posted»."
                )
            lacks = found == part.rows and part.kind == REQUESTS and (yield from RollUpsLack(rows))
            states[part] = ranges.part_state(part, found, roll_ups_lack=lacks)
        if ranges.PartState.ABSENT in states.values() and (
            is_settled or (yield from MayHaveLost((now_ms - intent.at_ms) / 1000))
        ):
            # Sent by its token, and recorded with the time of that, it would be dropped and nobody look again.
            lost = ranges.PartState.INCOMPLETE
            states = {
                part: lost if state is ranges.PartState.ABSENT else state for part, state in states.items()
            }
        return now_ms, states

    def put_back(self, intent: Intent, records: Sequence[Placed]) -> SinkProtocol[None]:
        """Add what an engine that was killed meanwhile has lost of a range that it has confirmed."""
        # Only an engine that was started since the range was recorded can have lost any of it.
        now_ms = yield from Now()
        if (yield from MayHaveLost((now_ms - intent.at_ms) / 1000)):
            for part in intent.parts:
                yield from self.complete(part, records)

    def complete(self, part: ranges.RangePart, records: Sequence[Placed]) -> SinkProtocol[None]:
        """Add what is missing of a part of the newest range, without the help of its token."""
        # 1. Rows that are missing come by way of a table of their own.
        rows = self._rows(part, records)
        if (yield from CountRows(rows)) < part.rows:
            staging = yield from PrepareStaging(rows)
            # Refused where a later owner is there: it does this itself.
            yield from ConfirmOwner(self._state)
            yield from PutBack(rows, staging)
        # 2. Then the roll-ups are brought up to the rows.
        if part.kind == REQUESTS:
            yield from CompleteRollUps(rows)

    def _rows(self, part: ranges.RangePart, records: Sequence[Placed]) -> JournalInsert:
        return ranges.insert_of(
            ranges.of_epoch(self._deployment, self._epoch), self._partition, part, records
        )


def read_journal(intent: Intent) -> ReadJournal:
    """Return the step that reads a recorded range."""
    return ReadJournal(intent.first_offset, intent.next_offset, sum(part.rows for part in intent.parts))


def next_offset_after(intent: Intent) -> int:
    """Return the offset of the next record to write once a recorded range is finished."""
    return intent.next_offset
