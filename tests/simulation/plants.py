"""How known mistakes are planted: each a patch of one function of the product's core or of its protocols.

Called by: `mutants.py`, which says what the mistakes are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import count
from typing import Any
from unittest.mock import patch

from msgspec import structs

from pipeline.accounts import verdicts
from pipeline.accounts.model import Account
from pipeline.catalog.rates import Rate
from pipeline.mail.protocol import MailProtocol, MailTurns
from pipeline.outcomes import DeadLetterReason
from pipeline.posting import protocol as worker_protocol
from pipeline.posting import requests
from pipeline.posting import unit as posting_unit
from pipeline.posting.state import PartitionState
from pipeline.posting.unit import InputRecord, Unit
from pipeline.sink import protocol as sink_protocol
from pipeline.sink import ranges
from pipeline.sink.protocol import RangeWriter, SinkProtocol
from pipeline.sink.ranges import Intent, PartState, RangePart
from pipeline.sink.steps import Placed
from pipeline.steps import Commit, OutgoingRecord
from pipeline.topics import REQUESTS

Patch = Callable[[], AbstractContextManager[Any]]


def drop_some_letters() -> AbstractContextManager[Any]:
    letters, real = count(), Unit.reject

    def reject(self: Unit, record: InputRecord, value: bytes, reason: DeadLetterReason, detail: str) -> None:
        if next(letters) % 10:
            real(self, record, value, reason, detail)

    return patch.object(Unit, "reject", reject)


def forget_positions() -> AbstractContextManager[Any]:
    real = PartitionState.restored

    def restored(partition: int, partitions: int, records: dict[bytes, bytes]) -> PartitionState:
        state = real(partition, partitions, records)
        state.meta.position = max(1, state.meta.position - 1)
        return state

    return patch.object(PartitionState, "restored", restored)


def tell_no_refusals() -> AbstractContextManager[Any]:
    real = verdicts.due_verdict

    def due_verdict(account: Account, at_ms: int) -> verdicts.Verdict | None:
        verdict = real(account, at_ms)
        return None if verdict is None else structs.replace(verdict, refused=account.spending.verdict_refused)

    return patch.object(verdicts, "due_verdict", due_verdict)


def dear_cache(rate: Rate, prompt: int, cached: int, completion: int, *_rest: object) -> int:
    _ = cached
    return prompt * rate.input_nano + completion * rate.output_nano


def sweep_by_any_time() -> AbstractContextManager[Any]:
    real = Unit.advance

    def advance(self: Unit, record: InputRecord) -> int:
        self.requests_ms = real(self, record)
        return self.requests_ms

    return patch.object(Unit, "advance", advance)


def keep_no_marks() -> AbstractContextManager[Any]:
    def fresh(state: PartitionState, records: Sequence[InputRecord]) -> list[InputRecord]:
        state.meta.offsets[records[-1].topic] = records[-1].offset + 1
        return list(records)

    return patch.object(worker_protocol, "fresh", fresh)


def take_gaps_for_losses() -> AbstractContextManager[Any]:
    real = posting_unit.fresh

    def fresh(state: PartitionState, records: Sequence[InputRecord]) -> list[InputRecord]:
        expected = state.meta.offsets.get(records[0].topic, 0)
        if records[0].topic == REQUESTS and records[0].offset > expected:
            raise LookupError("records are missing")
        return real(state, records)

    return patch.object(worker_protocol, "fresh", fresh)


def forgetting(forget: Callable[[PartitionState, bool], None]) -> Patch:
    """Have something of the state forgotten before each unit of requests; `forget` knows whether they were moved."""

    def plant() -> AbstractContextManager[Any]:
        real = requests.post_requests

        def post_requests(
            unit: Unit, records: Sequence[InputRecord], *, moved: bool, rest_every: int
        ) -> Iterator[None]:
            forget(unit.state, moved)
            return real(unit, records, moved=moved, rest_every=rest_every)

        return patch.object(worker_protocol, "post_requests", post_requests)

    return plant


def forget_numbers_and_marks(state: PartitionState, _moved: bool) -> None:
    state.sources.last.clear()
    state.ring.known.clear()


def forget_marks_of_moved(state: PartitionState, moved: bool) -> None:
    if moved:
        state.ring.known.clear()


def nothing(*_: object) -> Iterator[Any]:
    """Stand for a part of a protocol that takes no step."""
    return iter(())


def skip_recorded_range() -> AbstractContextManager[Any]:
    insert = RangeWriter.insert

    def unless_recorded_before(
        self: RangeWriter,
        intent: Intent,
        records: Sequence[Placed],
        *,
        sent_before: bool = False,
        is_settled: bool = False,
    ) -> SinkProtocol[None]:
        _ = is_settled
        if not sent_before:
            yield from insert(self, intent, records)

    return patch.object(RangeWriter, "insert", unless_recorded_before)


def read_recorded_range_again() -> AbstractContextManager[Any]:
    return patch.object(sink_protocol, "next_offset_after", lambda intent: intent.first_offset)


def insert_before_recording() -> AbstractContextManager[Any]:
    insert, record = RangeWriter.insert, RangeWriter.record

    def record_after(self: RangeWriter, intent: Intent) -> SinkProtocol[None]:
        records = yield from sink_protocol.read_journal(intent)
        yield from insert(self, intent, records)
        yield from record(self, intent)

    return patch.object(RangeWriter, "record", record_after)


def send_before_looking() -> AbstractContextManager[Any]:
    insert = RangeWriter.insert

    def by_its_token(
        self: RangeWriter,
        intent: Intent,
        records: Sequence[Placed],
        *,
        sent_before: bool = False,
        is_settled: bool = False,
    ) -> SinkProtocol[None]:
        _ = is_settled
        yield from insert(self, intent, records, sent_before=sent_before)

    return patch.object(RangeWriter, "insert", by_its_token)


def look_at_rows_only() -> AbstractContextManager[Any]:
    real = ranges.part_state

    def part_state(part: RangePart, found: int, *, roll_ups_lack: bool) -> PartState:
        _ = roll_ups_lack
        return real(part, found, roll_ups_lack=False)

    return patch.object(ranges, "part_state", part_state)


def new_token_per_try() -> AbstractContextManager[Any]:
    tries, real = count(), ranges.token
    return patch.object(ranges, "token", lambda *range_of: f"{real(*range_of)}/{next(tries)}")


def send_before_taking_out() -> AbstractContextManager[Any]:
    real = MailTurns.send_next

    def send_next(self: MailTurns, head: OutgoingRecord) -> MailProtocol[None]:
        """Take the product's own steps, but put off its first commit until the mail is sent."""
        steps = real(self, head)
        put_off: list[Commit] = []
        step = next(steps)
        try:
            while True:
                if isinstance(step, Commit) and not put_off:
                    put_off.append(step)
                    step = next(steps)
                else:
                    step = steps.send((yield step))
        except StopIteration:
            yield put_off[0]

    return patch.object(MailTurns, "send_next", send_next)
