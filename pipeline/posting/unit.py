"""One unit of work: input records in, one Kafka transaction's worth of output out.

Owns: what a unit gathers, which records are fresh, and the order in which a unit is closed.
Called by: `posting/protocol.py`, which has the output committed.
Next: `posting/requests.py` and `posting/commands.py` post the records.

Nothing here waits, reads a clock or draws a random number: the output is a function of the state and
the records, so any owner of the partition comes to the same one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from pipeline import ist
from pipeline.accounts.commands import Reply
from pipeline.accounts.commands import encode as encode_reply
from pipeline.accounts.model import Account, RememberedAnswer
from pipeline.accounts.payments import MoneyRecord, Order, encode_order_notice
from pipeline.accounts.promos import PromoTable
from pipeline.accounts.review import needs_review
from pipeline.catalog.rates import RateTable
from pipeline.events import LATE_MS, STAMP_AHEAD_MS, RequestEvent
from pipeline.gateway_book import GatewayBook
from pipeline.journal import (
    LEDGER,
    REQUESTS,
    JournalRecord,
    LedgerRow,
    RowValues,
    encode_rows,
    encode_values,
    position_of,
)
from pipeline.outcomes import DeadLetterReason
from pipeline.posting import progress
from pipeline.posting.differing import LOOKS_A_UNIT, DifferingDuplicate, difference
from pipeline.posting.meters import Meters
from pipeline.posting.reviewing import Reviewed
from pipeline.posting.state import PartitionState, StateRecord

DETAIL_CHARS = 500
LETTER_BYTES_MAX = 4 * 1024 * 1024
"""A dead letter up to this is carried whole: a record as most producers bound it. A compressed one may be far larger."""
CUT_LETTER_BYTES = 64 * 1024
"""What is carried of a larger one; headers tell its length and hash, and where the whole is."""
UNIT_BYTES_MAX = 16 * 1024 * 1024
UNIT_ROWS_MAX = 100_000
"""A unit takes no further record once what it writes is beyond one of these: bytes of dead letters, moved events and
replies; rows of requests. The rest of its batch is the next unit's. An ordinary batch has 25,000 rows."""
OVERHEAD_BYTES = 512
"""What a dead letter or a moved event counts for beside its bytes: the smallest has headers, and takes memory."""

Headers = list[tuple[str, bytes]]


class InputRecord(Protocol):
    """What a unit needs of a Kafka record; `timestamp` is the broker's own, in milliseconds."""

    @property
    def topic(self) -> str:
        """The topic's name."""

    @property
    def partition(self) -> int:
        """The partition of the topic."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""

    @property
    def timestamp(self) -> int:
        """When the broker took it, in milliseconds."""

    @property
    def value(self) -> bytes | None:
        """Its bytes; None for a tombstone."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Its headers, in order."""


R = TypeVar("R", bound=InputRecord)


class FutureStampError(Exception):
    """A record's time stamp is further ahead of the worker's clock than it can be: one of two clocks is wrong."""


@dataclass(slots=True)
class DeadLetter:
    """Bytes that could not be charged, and the headers that say why and where they came from."""

    value: bytes
    headers: Headers
    reason: DeadLetterReason


@dataclass(slots=True)
class Moved:
    """A misplaced event's bytes, for the partition its org belongs to."""

    partition: int
    value: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class TracedCommand:
    """A command that the request of an id was sent for: its kind, whether it only asks, and why it was not carried out, if so."""

    request_id: str
    kind: str
    only_asks: bool
    refusal: str | None


@dataclass(slots=True)
class UnitOutput:
    """Everything a unit writes, to be committed in one transaction. `counts` is for the metrics."""

    journal: list[JournalRecord]
    state: list[StateRecord]
    verdicts: list[tuple[bytes, bytes]]
    replies: list[bytes]
    keys: list[StateRecord]
    dead_letters: list[DeadLetter]
    moved: list[Moved]
    offsets: dict[str, int]
    counts: Counter[str]
    orders: list[tuple[bytes, bytes]] = field(default_factory=list)
    mail: list[tuple[bytes, bytes]] = field(default_factory=list)
    webhooks: list[tuple[bytes, bytes]] = field(default_factory=list)
    alerts: list[StateRecord] = field(default_factory=list)
    """What alerts go by, of the accounts of which it changed."""


@dataclass(slots=True)
class Unit:
    """What a unit has gathered so far. `at_ms` is the time of posting of the record in hand."""

    state: PartitionState
    rates: RateTable
    touched: dict[str, Account] = field(default_factory=dict)
    asked: dict[str, Account] = field(default_factory=dict)
    """Accounts that were decoded to be read: of each there is one copy in a unit."""
    profiles_changed: set[str] = field(default_factory=set)
    sources_changed: dict[str, None] = field(default_factory=dict)
    requests: list[RowValues] = field(default_factory=list)
    journal: list[JournalRecord] = field(default_factory=list)
    charged: int = 0
    ledger: list[LedgerRow] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=list)
    keys: list[StateRecord] = field(default_factory=list)
    """Key and value of each record for gateways, in order; no value for a key that is kept no more."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    meters: Meters = field(default_factory=Meters)
    debited_nano: int = 0
    requests_ms: int = 0
    """The newest time stamp of the unit's request records. Which sources are idle goes by these alone: other
    topics may be far ahead of the requests after an outage."""
    promos: PromoTable = field(default_factory=PromoTable)
    gateways: GatewayBook = field(default_factory=GatewayBook)
    money: dict[bytes, bytes | None] = field(default_factory=dict)
    orders: dict[bytes, bytes] = field(default_factory=dict)
    answers: dict[bytes, bytes | None] = field(default_factory=dict)
    """Records of kept answers; None for those that were let go of."""
    written_bytes: int = 0
    """Of dead letters, moved events and replies: what a small record may make much of."""
    used_marks: list[StateRecord] = field(default_factory=list)
    in_hand: InputRecord | None = None
    """The record that is being posted, None before the first."""
    reviewed: Reviewed = field(default_factory=Reviewed)
    """What gateways and orgs are to be told, and what is kept of it."""
    differing: list[DifferingDuplicate] = field(default_factory=list)
    traced: list[TracedCommand] = field(default_factory=list)
    """Commands that came with the id of a request: the log names them by it, once they are committed."""
    looks: int = 0
    """How many duplicates were compared with what was charged."""
    has_more: bool = False
    """Whether records of the batch are left for the next unit."""

    def touch(self, org: str) -> Account:
        """Return an org's account, to be saved when the unit is closed."""
        account = self.touched.get(org)
        if account is None:
            account = self.touched[org] = self.asked.get(org) or self.state.account(org)
        return account

    def account(self, org: str) -> Account:
        """Return an org's account as it is at this point of the unit, to be read."""
        account = self.touched.get(org) or self.asked.get(org)
        if account is None:
            account = self.asked[org] = self.state.account(org)
        return account

    def keep(self, record: MoneyRecord) -> None:
        """Keep an order, payment or refund as it is now; an order is published to the servers too."""
        key, value = self.state.save_money(record)
        self.money[key] = value
        if isinstance(record, Order):
            notice_key, notice = encode_order_notice(record)
            self.orders[notice_key] = notice

    def keep_answer(self, org: str, answer: RememberedAnswer) -> None:
        """Keep what a command was answered that may be repeated for a day."""
        key, value = self.state.answers.add(org, answer)
        self.answers[key] = value

    def let_answers_go(self) -> None:
        """Let go of the answers that were kept for their time."""
        self.answers |= dict.fromkeys(self.state.answers.let_go(self.state.meta.posted_ms))

    def note_source(self, source: str, number: int, charged: list[int]) -> None:
        """Remember the newest number of a source, and those that were charged here; nothing for no source."""
        if not source:
            return
        sources = self.state.sources
        if number > sources.last.get(source, -1):
            sources.last[source] = number
            self.sources_changed[source] = None
        if charged:
            self.state.numbers.add(source, charged)

    def advance(self, record: InputRecord) -> int:
        """Move the time of posting on to a record's and return it: the time never falls."""
        self.in_hand = record
        meta = self.state.meta
        meta.posted_ms = max(meta.posted_ms, record.timestamp)
        return meta.posted_ms

    def encode_requests(self) -> None:
        """Encode the rows of requests so far: what is let go of early is still in the processor's caches."""
        self.journal += encode_values(REQUESTS, self.requests)
        self.charged += len(self.requests)
        self.requests.clear()

    def next_id(self) -> int:
        """Return the public id that the next journal row takes."""
        return self.state.next_id()

    def took_ids(self, next_id: int) -> None:
        """Note that all ids below `next_id` are taken."""
        self.state.meta.position = position_of(next_id)[1]

    def note_duplicate(
        self,
        event: RequestEvent,
        beside: Sequence[RequestEvent],
        number: int = -1,
        in_hand: Sequence[int] = (),
    ) -> None:
        """Note a duplicate that differs from what was charged. Of many in a unit only the first are compared.

        Of an event on the wrong partition nothing is known here but that it was moved.
        """
        if self.looks >= LOOKS_A_UNIT or not self.state.owns(event.subject):
            return
        self.looks += 1
        state = self.state
        kind = difference(state.recent, state.numbers, event, number, beside=beside, in_hand=in_hand)
        if kind is not None:
            self.differing.append(DifferingDuplicate(kind, event.source, event.id))

    def reject(self, record: InputRecord, value: bytes, reason: DeadLetterReason, detail: str) -> None:
        """Send bytes to the dead letters; of more than LETTER_BYTES_MAX the beginning, and what the whole is."""
        headers = [("reason", reason.encode()), ("detail", detail[:DETAIL_CHARS].encode()), *origin(record)]
        if len(value) > LETTER_BYTES_MAX:
            whole = hashlib.sha256(value).hexdigest()
            headers += [("cut_from_bytes", str(len(value)).encode()), ("sha256", whole.encode())]
            value = value[:CUT_LETTER_BYTES]
        self.dead_letters.append(DeadLetter(value, headers, reason))
        self.written_bytes += len(value) + OVERHEAD_BYTES

    def move(self, record: InputRecord, value: bytes, partition: int) -> None:
        """Send the bytes of an event on to the partition its org belongs to."""
        self.moved.append(Moved(partition, value, origin(record)))
        self.written_bytes += len(value) + OVERHEAD_BYTES
        self.counts["moved"] += 1

    def reply(self, reply: Reply) -> None:
        """Answer a command."""
        encoded = encode_reply(reply)
        self.replies.append(encoded)
        self.written_bytes += len(encoded)

    def takes_aside(self, record: InputRecord) -> bool:
        """Whether an operator has set a record aside: then it is a dead letter now, and nobody looks into it."""
        why = self.state.set_aside.get((record.topic, record.offset))
        if why is None:
            return False
        self.reject(record, record.value or b"", DeadLetterReason.QUARANTINED, why)
        self.used_marks.append(self.state.drop_mark(record.topic, record.offset))
        return True

    def is_full(self) -> bool:
        """Whether the unit writes so much already that it takes no further record."""
        return self.written_bytes > UNIT_BYTES_MAX or self.charged > UNIT_ROWS_MAX

    def leave(self, records: Sequence[InputRecord]) -> None:
        """Leave the last of the fresh records, if any, to the next unit."""
        if records:
            self.state.meta.offsets[records[0].topic] = records[0].offset
            self.has_more = True


def origin(record: InputRecord) -> Headers:
    """Return the headers that say where a record came from."""
    return [
        ("topic", record.topic.encode()),
        ("partition", str(record.partition).encode()),
        ("offset", str(record.offset).encode()),
    ]


def fresh(state: PartitionState, records: Sequence[R]) -> list[R]:
    """Return the records at or above the state's mark for their topic, and move the mark past them.

    Offsets may be skipped: what a producer aborts takes offsets, and so does the marker that ends each transaction.
    Whether records were lost shows at the log's beginning alone, where `kafka/reader.py` looks.
    """
    kept = []
    for record in records:
        if record.offset < state.meta.offsets.get(record.topic, 0):
            continue
        state.meta.offsets[record.topic] = record.offset + 1
        kept.append(record)
    return kept


def check_stamps(records: Sequence[InputRecord], now_ms: int) -> None:
    """Raise FutureStampError at a record whose time stamp is over STAMP_AHEAD_MS after `now_ms`, the worker's time."""
    for record in records:
        if record.timestamp > now_ms + STAMP_AHEAD_MS:
            raise FutureStampError(
                f"{record.topic}/{record.partition}, offset {record.offset}: the broker's time stamp is "
                f"{record.timestamp} ms since 1970, {(record.timestamp - now_ms) / 1000:,.0f} s ahead of this "
                f"worker's clock; {STAMP_AHEAD_MS // 1000} s are allowed. Nothing of it is posted. Set the clock that "
                "is wrong, then see «a time stamp from the future» in docs/operations.md."
            )


def close(unit: Unit) -> UnitOutput:
    """End the unit: save what changed, make the verdicts that are due, and encode the journal."""
    state, meta = unit.state, unit.state.meta
    unit.meters.post()
    reviewed = unit.reviewed
    unit.let_answers_go()
    saved: list[StateRecord] = [*unit.money.items(), *unit.answers.items(), *unit.used_marks]
    for org, account in unit.touched.items():
        if needs_review(account):
            reviewed.review(state, account)
        if org in unit.profiles_changed:
            saved += state.save_account(account, profile_too=True)
        else:
            saved.append(state.save_spending(account))
    saved += state.save_checks(unit.sources_changed)
    today = ist.day_of(unit.requests_ms)
    if today > meta.swept_day:
        meta.swept_day = today
        saved += state.drop_idle_sources(unit.requests_ms - LATE_MS - ist.DAY_MS)
    saved += [*reviewed.told, state.save_meta()]
    unit.counts += reviewed.counts
    reviewed.verdicts += progress.record(state, beside_verdicts=bool(reviewed.verdicts))
    unit.encode_requests()
    journal = unit.journal + encode_rows(LEDGER, unit.ledger)
    return UnitOutput(
        journal=sorted(journal, key=lambda r: r.first),
        state=saved,
        verdicts=reviewed.verdicts,
        replies=unit.replies,
        keys=unit.keys,
        dead_letters=unit.dead_letters,
        moved=unit.moved,
        offsets=dict(meta.offsets),
        counts=unit.counts,
        orders=list(unit.orders.items()),
        mail=reviewed.mail,
        webhooks=reviewed.webhooks,
        alerts=reviewed.alerts,
    )
