"""Builders that tests share: events, records, rates, and a unit of work from start to end.

Everything here is data with sensible defaults; a test names only what it is about.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from hypothesis import settings

from pipeline import ist
from pipeline.accounts.authentication import CommandKeys
from pipeline.accounts.commands import AnyCommand
from pipeline.accounts.commands import encode as encode_command
from pipeline.accounts.promos import PromoTable
from pipeline.catalog.rates import Rate, RateTable
from pipeline.gateway_book import GatewayBook
from pipeline.journal import JournalRecord
from pipeline.posting import beside_journal
from pipeline.posting.commands import post_commands, read_commands
from pipeline.posting.rebuilding import Rebuilding
from pipeline.posting.requests import post_requests
from pipeline.posting.state import PartitionState, StateRecord
from pipeline.posting.unit import Unit, UnitOutput, close, fresh
from pipeline.topics import BILLING, MOVED, REQUESTS

NOW_MS = 1_781_289_000_000
"""2026-06-12T18:30:00.000Z: the first instant of 13 June 2026 in IST."""

EXAMPLES = settings(max_examples=150, deadline=None, derandomize="CI" in os.environ)
MANY_EXAMPLES = settings(max_examples=600, deadline=None, derandomize="CI" in os.environ)


COMMAND_KEY = "command-key-of-the-tests-0123456789"
NOTARY_KEY = "notary-key-of-the-tests-0123456789"
COMMAND_KEYS = CommandKeys.parse(COMMAND_KEY)


@dataclass
class Record:
    """A Kafka record as a unit sees it."""

    topic: str = REQUESTS
    partition: int = 0
    offset: int = 0
    timestamp: int = NOW_MS
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def command_record(value: bytes | None, partition: int = 0, offset: int = 0, at_ms: int = NOW_MS) -> Record:
    """Return a record of `metering.billing` as a holder of the command key sends it."""
    headers = COMMAND_KEYS.headers(value or b"", partition, at_ms)
    return Record(BILLING, partition, offset, at_ms, value, headers)


def time_text(at_ms: int) -> str:
    """Return an instant as RFC 3339 in UTC."""
    return ist.datetime_of(at_ms).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event(event_id: str = "e1", **changes: Any) -> dict[str, Any]:
    """Return a valid event: 200 prompt tokens, 64 of them cached, and 112 completion tokens.

    A change names a path with double underscores, such as `data__status`; None stays None and DROP
    takes the field away.
    """
    made: dict[str, Any] = copy.deepcopy(_EVENT)
    made["id"] = event_id
    for path, value in changes.items():
        *way, last = path.split("__")
        at = made
        for step in way:
            at = at[step]
        if value is DROP:
            at.pop(last, None)
        else:
            at[last] = value
    return made


class _Drop:
    """Whatever process prints it, it looks the same: tests are named by it."""

    def __repr__(self) -> str:
        return "DROP"


DROP = _Drop()
_EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "type": "bharatrouter.request.completed.v1",
    "source": "gateway/mum-1",
    "id": "e1",
    "subject": "org_1",
    "time": "2026-06-12T18:29:59.123Z",
    "data": {
        "key_id": "key_1",
        "tier": "standard",
        "byok": False,
        "model": "krutrim-2",
        "provider": "krutrim",
        "status": 200,
        "latency_ms": 740,
        "usage": {
            "prompt_tokens": 200,
            "completion_tokens": 112,
            "prompt_tokens_details": {"cached_tokens": 64},
        },
    },
}
COST_NANO = 136 * 12_500 + 64 * 3_125 + 112 * 50_000
"""What `event()` costs by `rate_table()`."""


def rate(**changes: Any) -> Rate:
    """Return krutrim-2's rate: 12.5 rupees per Mtok in, 3.125 cached, 50 out, since 1970."""
    fields = {
        "model": "krutrim-2",
        "provider": "krutrim",
        "from_ms": 0,
        "input_nano": 12_500,
        "cached_nano": 3_125,
        "output_nano": 50_000,
    }
    return Rate(**{**fields, **changes})


def rate_table(*rates: Rate) -> RateTable:
    """Return a table of the rates given, or of `rate()` alone."""
    table = RateTable()
    for each in rates or (rate(),):
        table.add(each)
    return table


def packed(*events: object) -> bytes:
    """Return a record's value: one event, or an array of several."""
    return json.dumps(events[0] if len(events) == 1 else list(events)).encode()


class Books:
    """One partition worked on unit by unit, with its state topic beside it."""

    def __init__(self, partition: int = 0, partitions: int = 1, rates: RateTable | None = None) -> None:
        """Start with an empty state."""
        self.state = PartitionState(partition, partitions)
        self.rates = rates or rate_table()
        self.topic: dict[bytes, bytes] = {}
        self.beside: dict[bytes, bytes] = {}
        """What is kept beside the journal, from the take-over on."""
        keep(self.beside, [self.state.save_meta()])
        self.journal: list[JournalRecord] = []
        self.next_offset = {REQUESTS: 0, BILLING: 0, MOVED: 0}
        self.promos = PromoTable()
        self.gateways = GatewayBook(COMMAND_KEYS.keys)

    def record(self, topic: str, value: bytes | None, at_ms: int = NOW_MS) -> Record:
        """Return the next record of a topic."""
        offset = self.next_offset[topic]
        self.next_offset[topic] = offset + 1
        if topic == BILLING:
            return command_record(value, self.state.partition, offset, at_ms)
        return Record(topic, self.state.partition, offset, at_ms, value)

    def publish(self, *values: bytes | None, at_ms: int = NOW_MS, topic: str = REQUESTS) -> UnitOutput:
        """Post records in one unit and return its outcome."""
        return self.post([self.record(topic, value, at_ms) for value in values])

    def send(self, *commands: AnyCommand | bytes, at_ms: int = NOW_MS) -> UnitOutput:
        """Carry out commands in one unit and return its outcome."""
        values = [c if isinstance(c, bytes) else encode_command(c) for c in commands]
        return self.publish(*values, at_ms=at_ms, topic=BILLING)

    def post(self, records: Sequence[Record]) -> UnitOutput:
        """Post records of one topic in one unit, and keep its state records."""
        topic = records[0].topic
        unit = Unit(self.state, self.rates, promos=self.promos, gateways=self.gateways)
        kept = fresh(self.state, records)
        if topic == BILLING:
            post_commands(unit, read_commands(unit, kept, COMMAND_KEYS))
        else:
            for _ in post_requests(unit, kept, moved=topic == MOVED):
                pass
        outcome = close(unit)
        keep(self.topic, outcome.state)
        beside = beside_journal.of_unit(self.state, outcome.state, outcome.alerts)
        keep(self.beside, [(output.key or b"", output.value) for output in beside])
        self.journal += outcome.journal
        return outcome

    def restore(self) -> PartitionState:
        """Return the state that the state topic describes."""
        return PartitionState.restored(self.state.partition, self.state.partitions, dict(self.topic))

    def rebuilt(self) -> PartitionState:
        """Lose the state topic, and return the state that is made again."""
        rebuilding = Rebuilding(self.state.partition, self.state.partitions, self.beside)
        for record in self.journal:
            rebuilding.fold(record)
        self.topic = rebuilding.finished()
        keep(self.topic, [rebuilding.state.save_meta()])
        return self.restore()

    def balance_nano(self, org: str = "org_1") -> int:
        """Return an org's balance."""
        return self.state.account(org).spending.balance_nano


def keep(topic: dict[bytes, bytes], records: Sequence[StateRecord]) -> None:
    """Do to a mapping what compaction does to the state topic."""
    for key, value in records:
        if value is None:
            topic.pop(key, None)
        else:
            topic[key] = value


def everything(state: PartitionState) -> Mapping[str, object]:
    """Return all that a state holds, in a form that compares by value."""
    orgs = state._spending.keys() | state._profiles.keys()
    return {
        "meta": state.meta,
        "accounts": {org: state.account(org) for org in sorted(orgs)},
        "last": dict(state.sources.last),
        "seen": dict(state.sources._seen_ms),
        "known": set(state.ring.known),
        "money": dict(state._money),
        "answers": state.answers.records(),
        "unpriced": set(state.unpriced.known),
        "chunks": [(number, list(marks)) for number, marks in state.ring._chunks],
        "numbers": [
            (chunk, {source: list(kept) for source, kept in by_source.items()})
            for chunk, by_source in state.numbers._chunks
        ],
        "room": state.numbers._room,
    }


def reasons(outcome: UnitOutput) -> list[str]:
    """Return the reason of each dead letter."""
    return [letter.reason for letter in outcome.dead_letters]


def utc_day_at(at_ms: int) -> tuple[int, int, int]:
    """Return the day of an instant as a program would have it that takes UTC for IST."""
    day = at_ms // ist.DAY_MS
    return day, day * ist.DAY_MS, (day + 1) * ist.DAY_MS
