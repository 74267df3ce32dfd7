"""Carry out commands: decide, apply, answer.

Owns: the steps from a command's bytes to its entries, rows, keys and reply.
Called by: `posting/protocol.py` with a batch of `metering.billing`.
Next: `accounts/decide.py` decides; `posting/unit.py` closes the unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from msgspec import Raw

from pipeline import ist, request_id
from pipeline.accounts import decide as decisions
from pipeline.accounts.authentication import CommandKeys
from pipeline.accounts.commands import (
    AnyAccountCommand,
    AnyCommand,
    Barrier,
    CommandRefusal,
    NoteStray,
    OpenOrder,
    Question,
    Reply,
    TellStatements,
    TellUnusualHour,
    decode_command,
    is_keyed,
    is_remembered,
)
from pipeline.accounts.keys import encode_key
from pipeline.accounts.ledger import Posting, apply
from pipeline.accounts.model import Account, RememberedAnswer
from pipeline.accounts.notice_choices import tell_statement
from pipeline.accounts.payments import Dispute, Payment, Refund, Stray
from pipeline.accounts.results import BarrierReached, Result, StatementsTold, StrayNoted
from pipeline.events import UnreadBatch, is_org
from pipeline.journal import PARTITIONS_MAX, LedgerRow
from pipeline.outcomes import DeadLetterReason, MoneyOutcome
from pipeline.partitioning import partition_of
from pipeline.posting.unit import InputRecord, TracedCommand, Unit
from pipeline.topics import MOVED

TOLD_AT_ONCE = 100
"""To how many orgs one command says at most that their statement is ready: each may be a mail and a webhook."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class NoCommand:
    """Why a record is no command to be carried out."""

    reason: DeadLetterReason
    detail: str


def _read(record: InputRecord, keys: CommandKeys) -> AnyCommand | NoCommand:
    """Return what a record says. Nothing is believed of one that no holder of a command key sent."""
    if isinstance(record.value, UnreadBatch):
        return NoCommand(DeadLetterReason.MALFORMED, record.value.detail)
    value = record.value or b""
    problem = keys.problem(record.headers, value, record.partition, record.timestamp)
    if problem is not None:
        return NoCommand(DeadLetterReason.UNAUTHENTICATED, problem)
    command = decode_command(value)
    return NoCommand(DeadLetterReason.MALFORMED, command) if isinstance(command, str) else command


ReadCommand = tuple[InputRecord, AnyCommand | NoCommand | None]
"""A record and what it says; None for one that an operator has set aside, as nobody looks into it."""


def read_commands(unit: Unit, records: Sequence[InputRecord], keys: CommandKeys) -> list[ReadCommand]:
    """Return what fresh records say: each is read, and its sender made sure of, once."""
    commands: list[ReadCommand] = []
    for record in records:
        unit.in_hand = record
        is_aside = (record.topic, record.offset) in unit.state.set_aside
        commands.append((record, None if is_aside else _read(record, keys)))
    unit.in_hand = None
    return commands


def post_commands(unit: Unit, commands: Sequence[ReadCommand]) -> None:
    """Carry out commands, in order; what is no command becomes a dead letter."""
    for record, command in commands:
        if command is None:
            unit.takes_aside(record)
            continue
        if unit.is_full():
            unit.leave([record])
            break
        posted_ms = unit.advance(record)
        unit.counts["commands"] += 1
        if isinstance(command, NoCommand):
            unit.reject(record, bytes(record.value or b""), command.reason, command.detail)
        elif isinstance(command, Barrier):
            unit.reply(Reply(command.id, result=Raw(_encode(_barrier_reached(unit)))))
        elif isinstance(command, NoteStray):
            _answer(unit, record, command, _note_stray(unit, command))
        elif isinstance(command, TellStatements):
            unit.reply(_tell_statements(unit, command, posted_ms))
        elif not is_org(command.org):
            unit.reject(record, record.value or b"", DeadLetterReason.INVALID, "org has control characters")
        elif partition_of(command.org, unit.state.partitions) != unit.state.partition:
            unit.reject(
                record,
                record.value or b"",
                DeadLetterReason.INVALID,
                "the command is on another org's partition",
            )
        else:
            _answer(unit, record, command, _carry_out(unit, command, posted_ms))


def _answer(unit: Unit, record: InputRecord, command: AnyAccountCommand | NoteStray, reply: Reply) -> None:
    """Answer a command, and note for whose request it was sent where its record says so."""
    unit.reply(reply)
    of = request_id.carried(record.headers)
    if of is not None:
        why = None if reply.refusal is None else reply.refusal.code
        kind = str(command.__struct_config__.tag)
        unit.traced.append(TracedCommand(of, kind, isinstance(command, Question), why))


def catalog_offset_needed(commands: Sequence[ReadCommand]) -> int:
    """Return how far the catalog must have been read before these commands may be carried out."""
    return max((barrier.catalog_offset for barrier in _barriers(commands)), default=0)


def promos_offset_needed(commands: Sequence[ReadCommand]) -> int:
    """Return how far the promo codes must have been read before these commands may be carried out."""
    return max((barrier.promos_offset for barrier in _barriers(commands)), default=0)


def gateways_offset_needed(commands: Sequence[ReadCommand]) -> int:
    """Return how far the gateways must have been read before these commands may be carried out."""
    return max((barrier.gateways_offset for barrier in _barriers(commands)), default=0)


def _barrier_reached(unit: Unit) -> BarrierReached:
    state = unit.state
    return BarrierReached(state.partition, state.meta.offsets.get(MOVED, 0))


def _barriers(commands: Sequence[ReadCommand]) -> list[Barrier]:
    return [command for _, command in commands if isinstance(command, Barrier)]


def _carry_out(unit: Unit, command: AnyAccountCommand, posted_ms: int) -> Reply:
    account, keyed = unit.account(command.org), is_keyed(command)
    if keyed:
        unit.let_answers_go()
    kept = unit.state.answer(command.org, command.id) if keyed else None
    earlier = decisions.answered_before(account, command, kept)
    if isinstance(earlier, CommandRefusal):
        return Reply(command.id, refusal=earlier)
    if earlier is not None:
        return Reply(command.id, result=Raw(earlier))
    # An order that Razorpay has made is recorded: its attempt was taken on with the key that it belongs to.
    if keyed and not isinstance(command, OpenOrder):
        refusal = unit.state.answers.refusal(command.org, posted_ms)
        if refusal is not None:
            return Reply(command.id, refusal=refusal)
    posting = decisions.decide(
        account, command, posted_ms, decisions.known_of(command, unit.state, unit.promos)
    )
    if isinstance(posting, CommandRefusal):
        return Reply(command.id, refusal=posting)
    result = _encode(posting.result)
    if not isinstance(command, Question):
        _post(unit, unit.touch(command.org), posting, posted_ms)
        if not isinstance(command, TellUnusualHour) and is_remembered(command):
            answer = RememberedAnswer(command.id, command.fingerprint, posted_ms, result)
            if keyed:
                unit.keep_answer(command.org, answer)
            else:
                account.profile = decisions.with_answer(account.profile, answer)
                unit.profiles_changed.add(command.org)
    return Reply(command.id, result=Raw(result))


def _tell_statements(unit: Unit, command: TellStatements, posted_ms: int) -> Reply:
    """Tell orgs of a month's statement that were not told; those that want no such notice count as told from now on."""
    this_month = ist.month_of(posted_ms)
    if command.month >= this_month:
        # Not over by the time of posting, whatever the clock of whoever asks says.
        return _statements_told(command, 0, has_more=True)
    done = 0
    is_last = command.month == ist.month_of(ist.month_start_ms(this_month) - 1)
    for org in unit.state.not_told_of(command.month) if is_last else ():
        account = unit.touched.get(org) or unit.state.account(org)
        posting = tell_statement(account, command.month, posted_ms, unit.state.told(org))
        if posting.told is None:
            continue
        if done == TOLD_AT_ONCE:
            return _statements_told(command, done, has_more=True)
        _post(unit, unit.touch(org), posting, posted_ms)
        done += 1
    return _statements_told(command, done, has_more=False)


def _statements_told(command: TellStatements, orgs: int, *, has_more: bool) -> Reply:
    return Reply(command.id, result=Raw(_encode(StatementsTold(orgs, has_more))))


def _note_stray(unit: Unit, command: NoteStray) -> Reply:
    known = unit.state.payment(command.payment_id)
    if known is None:
        unit.keep(Stray(command.payment_id, command.order_id, command.amount_paise, command.currency))
        unit.counts[MoneyOutcome.STRAY] += 1
    return Reply(command.id, result=Raw(_encode(StrayNoted(noted=known is None))))


def _post(unit: Unit, account: Account, posting: Posting[Result], posted_ms: int) -> None:
    if posting.profile is not None:
        account.profile = posting.profile
        unit.profiles_changed.add(account.org)
    for record in posting.records:
        unit.keep(record)
        if isinstance(record, Payment):
            unit.counts[MoneyOutcome.of_payment(record.status)] += 1
        elif isinstance(record, Refund):
            unit.counts[MoneyOutcome.of_refund(record.status)] += 1
        elif isinstance(record, Dispute):
            unit.counts[MoneyOutcome.of_dispute(record.status)] += 1
    if posting.told is not None:
        unit.reviewed.told.append(unit.state.save_told(account.org, posting.told))
    if posting.notice is not None:
        unit.reviewed.tell(account, *posting.notice, posted_ms)
    unit.keys += [(key.key_id.encode(), encode_key(account.org, key)) for key in posting.keys]
    unit.keys += [(key_id.encode(), None) for key_id in posting.gone_keys]
    for entry in posting.entries:
        spending = apply(account.spending, entry)
        spending.entry_id = unit.next_id()
        unit.took_ids(spending.entry_id + PARTITIONS_MAX)
        unit.ledger.append(
            LedgerRow(
                spending.entry_id,
                account.org,
                posted_ms,
                entry.kind,
                entry.amount_nano,
                spending.balance_nano,
                entry.payment_id or "",
                entry.order_id or "",
                entry.promo_code or "",
                entry.note or "",
            )
        )
