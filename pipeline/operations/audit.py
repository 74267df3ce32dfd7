"""Fold the journal again and compare: the books' own second opinion. Pure.

Owns: what the journal says the balances, budgets and sums are, and the differences from what is stored.
Called by: `operations/verify.py`, which reads the journal, the state and ClickHouse; `operations/checkpoints.py` keeps
what was folded.

Balances and budgets are folded with `accounts/ledger.py` alone, the same two functions that post. What is held in memory
grows with accounts, payments and days, never with the number of rows: the rows are summed in slices, each of which is
compared and let go.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, assert_never

from msgspec import Struct

from pipeline import ist
from pipeline.accounts.ledger import LedgerEntry, apply, charge
from pipeline.accounts.model import Account, Spending, decode_spending, encode_spending
from pipeline.accounts.payments import Payment
from pipeline.accounts.promos import key_of
from pipeline.accounts.returns import credited_paise, posted_nano
from pipeline.catalog.rates import Rate
from pipeline.catalog.rating import cost_nano as cost_of
from pipeline.catalog.rating import is_free
from pipeline.events import FAILED_FROM
from pipeline.journal import JournalRecord, LedgerRow, RequestRow, decode_rows, position_of
from pipeline.money import NANO_PER_PAISA
from pipeline.outcomes import LedgerKind

K = TypeVar("K", bound=tuple[object, ...])

Group = tuple[str, str, str, str, str, bool, str]
"""(org, IST date, model, key_id, provider, byok, tier): what a roll-up groups by."""
Rates = dict[tuple[str, str, int], Rate]
"""Rates by (model, provider, start)."""
SUMS = 7
"""What is summed of a group: requests, errors, prompt, cached, completion and beside tokens, cost."""
DIFFERENCES_MAX = 1_000
"""Of a partition; who sees so many has seen enough, and the rest is counted."""
SLICE_GROUPS_MAX = 50_000
SLICE_ROWS_MAX = 1_000_000
NO_CHAIN = bytes(32)
"""The hash of an empty journal."""


class Difference(Struct, frozen=True):
    """Two places that should agree and do not. `place` names what is compared, `of` which one of it."""

    place: str
    of: str
    expected: str
    found: str


@dataclass
class Slice:
    """What the rows at the positions from `first` up to before `below` come to."""

    first: int
    below: int
    groups: dict[Group, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0] * SUMS))
    request_rows: int = 0
    ledger_rows: int = 0
    ledger_nano: int = 0

    @property
    def is_full(self) -> bool:
        """Whether it is time to compare it and let it go."""
        return len(self.groups) >= SLICE_GROUPS_MAX or self.below - self.first >= SLICE_ROWS_MAX


@dataclass
class Books:
    """What a partition's journal comes to, up to a position; from the beginning, or from a checkpoint on."""

    partition: int
    next_position: int = 1
    chain: bytes = NO_CHAIN
    """A hash over all records up to here, each over the one before: two journals with one hash are the same."""
    resting: dict[str, bytes] = field(default_factory=dict)
    """Accounts that are not in use, encoded as in the state topic, by org."""
    accounts: dict[str, Account] = field(default_factory=dict)
    """Accounts in use: those that the present slice is about."""
    days: dict[int, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0] * SUMS))
    """The sums of each IST day."""
    rates: Rates = field(default_factory=dict)
    """Every rate: what a row's cost can be computed from again."""
    request_rows: int = 0
    ledger_rows: int = 0
    paid: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0]))
    """By payment id: how often and how much was credited, and what refunds and disputes come to, in nano-rupees."""
    redeemed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By org and promo code: how many bonuses."""
    differences: list[Difference] = field(default_factory=list)
    more_differences: int = 0
    part: Slice = field(init=False)

    def __post_init__(self) -> None:
        """Begin a slice where the journal is read on."""
        self.part = Slice(self.next_position, self.next_position)

    def fold(self, record: JournalRecord, registered: Mapping[str, Account]) -> None:
        """Take in one journal record; `registered` tells which keys an account knows."""
        if record.first != self.next_position:
            place = f"journal/{self.partition}"
            self._differ(place, "positions", str(self.next_position), str(record.first))
        head = f"{record.kind} {record.first} {record.last} {record.format} ".encode()
        self.chain = hashlib.sha256(self.chain + head + record.value).digest()
        for row in decode_rows(record):
            position = position_of(row.id)
            if position != (self.partition, self.next_position):
                place = f"journal/{self.partition}"
                self._differ(place, "id", str((self.partition, self.next_position)), str(position))
            self.next_position = position[1] + 1
            account = self._account(row.org, registered)
            if isinstance(row, RequestRow):
                self._fold_request(account, row)
            else:
                self._fold_entry(account, row)
        self.part.below = self.next_position

    def take_slice(self) -> Slice:
        """Return the slice so far and begin the next one. Its accounts are laid to rest."""
        done, self.part = self.part, Slice(self.next_position, self.next_position)
        for org, account in self.accounts.items():
            self.resting[org] = encode_spending(account)
        self.accounts.clear()
        return done

    def orgs(self) -> set[str]:
        """Return the orgs that have rows."""
        return self.accounts.keys() | self.resting.keys()

    def spending(self, org: str) -> Spending:
        """Return what an org's rows come to, to be read; nothing for an org that has none."""
        if org in self.accounts:
            return self.accounts[org].spending
        resting = self.resting.get(org)
        return decode_spending(resting) if resting is not None else Spending()

    def _account(self, org: str, registered: Mapping[str, Account]) -> Account:
        account = self.accounts.get(org)
        if account is None:
            account = self.accounts[org] = Account(org, self.spending(org))
            if org in registered:
                account.decoded_profile = registered[org].profile
        return account

    def _fold_request(self, account: Account, row: RequestRow) -> None:
        day = ist.day_of(row.at_ms)
        charge(account, row.key_id, trial=row.tier == "trial", day=day, cost_nano=row.cost_nano)
        due_nano = self._due_nano(row)
        if row.cost_nano != due_nano:
            self._differ("cost by its rate", f"row {row.id}", str(due_nano), str(row.cost_nano))
        date = ist.date_of(day).isoformat()
        sums = self.part.groups[row.org, date, row.model, row.key_id, row.provider, row.byok, row.tier]
        of_day = self.days[day]
        counted = (
            1,
            row.status >= FAILED_FROM,
            row.prompt_tokens,
            row.cached_tokens,
            row.completion_tokens,
            row.beside_tokens,
            row.cost_nano,
        )
        for i, value in enumerate(counted):
            sums[i] += value
            of_day[i] += value
        self.request_rows += 1
        self.part.request_rows += 1

    def _due_nano(self, row: RequestRow) -> int | None:
        """Return what a request costs by the rate that its row names; None where there is no such rate."""
        if is_free(row):
            return 0
        rate = self.rates.get((row.model, row.provider, row.rate_from_ms))
        if rate is None:
            return None
        return cost_of(rate, *row.counts)

    def _fold_entry(self, account: Account, row: LedgerRow) -> None:
        spending = apply(account.spending, LedgerEntry(LedgerKind(row.kind), row.amount_nano))
        spending.entry_id = row.id
        if spending.balance_nano != row.balance_after_nano:
            self._differ(
                "ledger balance_after",
                f"row {row.id}",
                str(spending.balance_nano),
                str(row.balance_after_nano),
            )
        self.ledger_rows += 1
        self.part.ledger_rows += 1
        self.part.ledger_nano += row.amount_nano
        self._fold_payment(row)

    def _fold_payment(self, row: LedgerRow) -> None:
        kind = LedgerKind(row.kind)
        match kind:
            case LedgerKind.TOPUP:
                self.paid[row.payment_id][0] += 1
                self.paid[row.payment_id][1] += row.amount_nano
            case LedgerKind.REFUND | LedgerKind.DISPUTE:
                self.paid[row.payment_id][2] += row.amount_nano
            case LedgerKind.PROMO:
                if row.promo_code:
                    self.redeemed[row.org, key_of(row.promo_code)] += 1
            case LedgerKind.CORRECTION:
                pass
            case _:
                assert_never(kind)

    def _differ(self, place: str, of: str, expected: str, found: str) -> None:
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(Difference(place, of, expected, found))
        else:
            self.more_differences += 1


def compare_accounts(books: Books, stored: Mapping[str, Account]) -> Iterable[Difference]:
    """Compare the worker's balances and budgets with what the journal comes to."""
    for org in sorted(books.orgs() | stored.keys()):
        account = stored.get(org) or Account(org)
        folded, kept = books.spending(org), account.spending
        for name in ("credited_nano", "debited_nano", "balance_nano", "entry_id"):
            expected, found = getattr(folded, name), getattr(kept, name)
            if expected != found:
                yield Difference(f"state {name}", org, str(expected), str(found))
        for key_id in account.profile.keys:
            expected_usage, found_usage = folded.keys.get(key_id), kept.keys.get(key_id)
            if expected_usage != found_usage:
                yield Difference(
                    "state key usage", f"{org} {key_id}", repr(expected_usage), repr(found_usage)
                )


def compare_payments(books: Books, kept: Iterable[Payment]) -> Iterable[Difference]:
    """Compare the payments that the worker keeps with what the journal credits; each once, each bonus too."""
    captured = {payment.payment_id: payment for payment in kept if payment.status == "captured"}
    for payment_id in sorted(books.paid.keys() | captured.keys()):
        payment = captured.get(payment_id)
        expected = [1, 0, 0]
        if payment is not None:
            expected = [1, credited_paise(payment) * NANO_PER_PAISA, posted_nano(payment)]
        found = books.paid.get(payment_id, [0, 0, 0])
        if found != expected:
            place = "payment (credits, credited nano, given back nano)"
            yield Difference(place, payment_id, str(expected), str(found))
    for (org, code), times in sorted(books.redeemed.items()):
        if times > 1:
            yield Difference("promo redemptions", f"{org} {code}", "1", str(times))


def compare_groups(
    place: str, expected: Mapping[K, Iterable[int]], found: Mapping[K, Iterable[int]]
) -> Iterable[Difference]:
    """Compare sums by group, a missing one being all zeros."""
    for group in sorted(expected.keys() | found.keys()):
        want, have = tuple(expected.get(group, ())), tuple(found.get(group, ()))
        if want != have and (any(want) or any(have)):
            yield Difference(place, " ".join(map(str, group)), str(want), str(have))
