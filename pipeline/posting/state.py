"""What one partition knows: accounts, the duplicate check, and how far it has read and written.

Owns: the records of `metering.state.accounts` and the memory they are restored into.
Called by: `posting/unit.py` through a unit; `posting/protocol.py` restores it and has its changes committed.

Accounts are kept encoded, as a million of them have to fit in memory; a unit decodes those it uses, and of each only
what it uses. A record's key starts with a letter for its kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

import msgspec
from msgspec import Struct, field

from pipeline.accounts.model import (
    Account,
    RememberedAnswer,
    Spending,
    decode_spending,
    encode_profile,
    encode_spending,
)
from pipeline.accounts.notices import Told, decode_told, encode_told
from pipeline.accounts.payments import (
    Dispute,
    MoneyRecord,
    NamedCredit,
    Order,
    Payment,
    Refund,
    Stray,
    decode_dispute,
    decode_named_credit,
    decode_order,
    decode_payment,
    decode_refund,
    decode_stray,
)
from pipeline.accounts.payments import encode as encode_money
from pipeline.formats import STATE
from pipeline.identity import DeploymentIdentity
from pipeline.journal import public_id
from pipeline.partitioning import partition_of
from pipeline.posting import answers, set_aside
from pipeline.posting.answers import KeyedAnswers
from pipeline.posting.differing import RecentRecords
from pipeline.posting.duplicates import NumberedSources, RecentNumbers, Ring

META_KEY = b"m"
SPENDING, PROFILE, SOURCE, RING_SLOT, UNPRICED_SLOT, NUMBERS_SLOT = b"b", b"p", b"n", b"r", b"x", b"c"
ORDER, PAYMENT, REFUND, STRAY, DISPUTE, NAMED_CREDIT = b"o", b"y", b"f", b"u", b"d", b"a"
IDENTITY = b"i"
COPY_KEY = b"w"
"""Key of the record of a copy that is still written by `metering mirror`: nobody may take the partition over."""
REBUILD_KEY = b"h"
"""Key of the record by which nobody may take the partition over while `metering rebuild state` makes it again."""
TOLD = b"t"
"""Of what an org was told already: accounts/notices.py. Then comes the org."""
MONEY = (ORDER, PAYMENT, REFUND, STRAY, DISPUTE, NAMED_CREDIT)


class StateError(Exception):
    """The state cannot be used as it is: the message says why and what to do."""


class Meta(Struct, forbid_unknown_fields=True):
    """How far a partition has come: written by every unit.

    `offsets` is the next offset of each input topic, `position` the next of the journal; `posted_ms` is
    the newest time of posting, which never falls. `topic_ids` is Kafka's id of each input topic, of the journal and of the
    state topic itself. `format` is that of all
    records of the topic together: a state of an older one is read, and its records are written anew as units touch them.
    """

    partitions: int
    format: int = STATE.number
    position: int = 1
    posted_ms: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    swept_day: int = 0
    topic_ids: dict[str, str] = field(default_factory=dict)


def read_meta(meta: bytes) -> Meta:
    """Return what the value of the record at META_KEY says. Raises NewerFormatError where a newer release wrote it."""
    STATE.check(_unpack_format(meta).format)
    return _unpack_meta(meta)


def encode_meta(meta: Meta) -> bytes:
    """Return the value of the record at META_KEY."""
    return _pack(meta)


def next_offsets(meta: bytes) -> dict[str, int]:
    """Return the next offset of each input topic, by the value of the record at META_KEY.

    Raises NewerFormatError where a newer release wrote it.
    """
    return read_meta(meta).offsets


class _Format(Struct):
    """The one field of `Meta` that every release can read."""

    format: int


_pack = msgspec.msgpack.Encoder().encode
_unpack_format = msgspec.msgpack.Decoder(_Format).decode
_unpack_meta = msgspec.msgpack.Decoder(Meta).decode

StateRecord = tuple[bytes, bytes | None]
"""Key and value of a record of the state topic; no value deletes the key."""


class PartitionState:
    """The memory of one partition. It is changed by units only, and only forward."""

    def __init__(self, partition: int, partitions: int) -> None:
        """Start empty, as partition `partition` of `partitions`."""
        self.partition = partition
        self.partitions = partitions
        self.meta = Meta(partitions)
        self.ring = Ring()
        self.unpriced = Ring()
        """Marks of numbered events that became dead letters and may be charged by way of a redrive, and of those among them
        that were published again and charged (`duplicates.charged_letter_mark`)."""
        self.sources = NumberedSources()
        self.numbers = RecentNumbers()
        self.recent = RecentRecords()
        """What came last, as it came; in memory alone."""
        self.progress_told: int | None = None
        """The request offset that gateways were last told, by this owner; None before the first time."""
        self.progress_told_ms = 0
        self.set_aside: dict[tuple[str, int], str] = {}
        """The records that operators have set aside, by topic and offset, and why; as of the take-over."""
        self.answers = KeyedAnswers()
        """What was answered to commands that may be repeated for a day."""
        self.identities: list[DeploymentIdentity] = []
        """Which deployments have taken the partition over: one, or it is a mistake."""
        self._spending: dict[str, bytes] = {}
        self._profiles: dict[str, bytes] = {}
        self._money: dict[bytes, bytes] = {}
        self._told: dict[str, bytes] = {}

    @classmethod
    def restored(cls, partition: int, partitions: int, records: dict[bytes, bytes]) -> PartitionState:
        """Return the state that the newest record of each key describes.

        Raises StateError where it was written for another partition count, NewerFormatError where by a newer release.
        """
        _refuse_half_made(partition, records)
        state = cls(partition, partitions)
        state._restore_meta(records.get(META_KEY))
        slots: dict[bytes, list[bytes]] = {RING_SLOT: [], UNPRICED_SLOT: [], NUMBERS_SLOT: []}
        by_org = {SPENDING: state._spending, PROFILE: state._profiles, TOLD: state._told}
        # An org is in several mappings: one text for all.
        orgs: dict[str, str] = {}
        for key, value in records.items():
            kind = key[:1]
            if kind in by_org:
                org = key[1:].decode()
                by_org[kind][orgs.setdefault(org, org)] = value
            elif kind in MONEY:
                state._money[key] = value
            elif kind == SOURCE:
                state.sources.restore(key[1:].decode(), value)
            elif kind in slots:
                slots[kind].append(value)
            elif kind == IDENTITY:
                state.identities.append(DeploymentIdentity(key[1:].decode(), value.decode()))
            elif kind == set_aside.MARK:
                state.set_aside[set_aside.place_of(key)] = value.decode()
            elif key != META_KEY and kind != answers.MARK:
                raise StateError(
                    f"partition {partition}: unknown state record {key[:20]!r}; is the program too old?"
                )
        state.ring, state.unpriced = Ring.restored(slots[RING_SLOT]), Ring.restored(slots[UNPRICED_SLOT])
        state.numbers = RecentNumbers.restored(slots[NUMBERS_SLOT])
        state.answers = KeyedAnswers.restored(each for each in records.items() if each[0][:1] == answers.MARK)
        return state

    def _restore_meta(self, value: bytes | None) -> None:
        if value is None:
            return
        self.meta = read_meta(value)
        self.meta.format = STATE.number
        if self.meta.partitions != self.partitions:
            raise StateError(
                f"the state was written for {self.meta.partitions} partitions, but the topics have "
                f"{self.partitions}: orgs would move between owners. Restore the topics' partition count."
            )

    def __len__(self) -> int:
        """Return the number of accounts."""
        return len(self._spending)

    def orgs(self) -> set[str]:
        """Return the orgs that have an account here."""
        return set(self._spending)

    def owns(self, org: str) -> bool:
        """Whether an org belongs to this partition."""
        return org in self._spending or partition_of(org, self.partitions) == self.partition

    def account(self, org: str) -> Account:
        """Return a copy of an org's account as it was saved last, a new one at zero where there is none."""
        spending = self._spending.get(org)
        return Account(
            org, decode_spending(spending) if spending is not None else Spending(), None, self._profiles
        )

    def save_account(self, account: Account, *, profile_too: bool) -> list[StateRecord]:
        """Keep an account as it is now, and return its state records."""
        records: list[StateRecord] = [self.save_spending(account)]
        if profile_too:
            org = account.org
            profile = self._profiles[org] = encode_profile(account.profile)
            records.append((PROFILE + org.encode(), profile))
        return records

    def save_spending(self, account: Account) -> StateRecord:
        """Keep what requests change of an account as it is now, and return its state record."""
        org = account.org
        spending = self._spending[org] = encode_spending(account)
        return SPENDING + org.encode(), spending

    def told(self, org: str) -> Told:
        """Return what an org was told already."""
        return decode_told(self._told.get(org))

    def not_told_of(self, month: int) -> list[str]:
        """Return the orgs that were told of no statement of an IST month or a later one, in no certain order."""
        told = {org for org, value in self._told.items() if decode_told(value).month >= month}
        return [org for org in self._profiles if org not in told]

    def save_told(self, org: str, told: Told) -> StateRecord:
        """Keep what an org was told, and return its state record."""
        value = self._told[org] = encode_told(told)
        return TOLD + org.encode(), value

    def order(self, order_id: str) -> Order | None:
        """Return an order by its id."""
        value = self._money.get(ORDER + order_id.encode())
        return decode_order(value) if value is not None else None

    def payment(self, payment_id: str) -> Payment | None:
        """Return a payment by its id."""
        value = self._money.get(PAYMENT + payment_id.encode())
        return decode_payment(value) if value is not None else None

    def refund(self, refund_id: str) -> Refund | None:
        """Return a refund by its id."""
        value = self._money.get(REFUND + refund_id.encode())
        return decode_refund(value) if value is not None else None

    def dispute(self, dispute_id: str) -> Dispute | None:
        """Return a dispute by its id."""
        value = self._money.get(DISPUTE + dispute_id.encode())
        return decode_dispute(value) if value is not None else None

    def named_credit(self, command_id: str) -> NamedCredit | None:
        """Return an operator's credit by its command's id."""
        value = self._money.get(NAMED_CREDIT + command_id.encode())
        return decode_named_credit(value) if value is not None else None

    def next_id(self) -> int:
        """Return the public id that the next journal row takes."""
        return public_id(self.partition, self.meta.position)

    def answer(self, org: str, command_id: str) -> RememberedAnswer | None:
        """Return what a command of an org that may be repeated for a day was answered."""
        return self.answers.find(org, command_id)

    def payments(self) -> Iterator[Payment]:
        """Return all payments that orgs of this partition made or tried to make."""
        return (decode_payment(v) for k, v in self._money.items() if k[:1] == PAYMENT)

    def disputes(self) -> Iterator[Dispute]:
        """Return all disputes of payments of this partition's orgs."""
        return (decode_dispute(v) for k, v in self._money.items() if k[:1] == DISPUTE)

    def strays(self) -> Iterator[Stray]:
        """Return the payments kept here that are no org's."""
        return (decode_stray(v) for k, v in self._money.items() if k[:1] == STRAY)

    def save_money(self, record: MoneyRecord) -> StateRecord:
        """Keep a small record of money, and return its state record."""
        key, value = _key_of_money(record), encode_money(record)
        self._money[key] = value
        return key, value

    def save_checks(self, changed_sources: dict[str, None]) -> list[StateRecord]:
        """Return the state records of the duplicate check's changes."""
        at_ms = self.meta.posted_ms
        records: list[StateRecord] = [
            (SOURCE + source.encode(), value)
            for source, value in self.sources.take_changes(changed_sources, at_ms)
        ]
        kept = ((RING_SLOT, self.ring), (UNPRICED_SLOT, self.unpriced), (NUMBERS_SLOT, self.numbers))
        for kind, chunks in kept:
            records += [(kind + slot.to_bytes(2), value) for slot, value in chunks.take_changes()]
        return records

    def drop_idle_sources(self, before_ms: int) -> list[StateRecord]:
        """Forget sources idle since an instant, and return the records that delete them."""
        return [(SOURCE + source.encode(), None) for source in self.sources.drop_idle(before_ms)]

    def drop_mark(self, topic: str, offset: int) -> StateRecord:
        """Forget that a record was set aside, as it is a dead letter now, and return what deletes its mark."""
        del self.set_aside[topic, offset]
        return set_aside.key_of(topic, offset), None

    def identity_record(self, identity: DeploymentIdentity) -> StateRecord:
        """Return the state record that tells which deployment the partition is of; each has a key of its own."""
        return IDENTITY + identity.name.encode(), identity.id.encode()

    def save_meta(self) -> StateRecord:
        """Return the state record that tells how far the partition has come."""
        return META_KEY, encode_meta(self.meta)


def _refuse_half_made(partition: int, records: dict[bytes, bytes]) -> None:
    """Raise StateError where the partition is one of a copy that is still written, or is being made again."""
    if REBUILD_KEY in records:
        raise StateError(
            f"partition {partition}: `metering rebuild state` was ended before the state was made again. Run it again: "
            "see docs/operations.md, «A state that is lost»."
        )
    if COPY_KEY in records:
        raise StateError(
            f"partition {partition}: the topics are a copy that `metering mirror` writes. Once the first cluster is "
            "lost, or stopped for good, `metering mirror --promote` makes them a deployment's own: see "
            "docs/deploy.md, «When the cluster is lost»."
        )


def _key_of_money(record: MoneyRecord) -> bytes:
    match record:
        case Order():
            return ORDER + record.order_id.encode()
        case Payment():
            return PAYMENT + record.payment_id.encode()
        case Refund():
            return REFUND + record.refund_id.encode()
        case Dispute():
            return DISPUTE + record.dispute_id.encode()
        case NamedCredit():
            return NAMED_CREDIT + record.command_id.encode()
        case Stray():
            return STRAY + record.payment_id.encode()
    assert_never(record)
