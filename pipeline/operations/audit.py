"""Fold the journal again and compare: the books' own second opinion. Pure.

Owns: what the journal says the balances, budgets and sums are, and the differences from what is stored.
Called by: `operations/verify.py`, which reads the journal, the state and ClickHouse.

Balances and budgets are folded with `accounts/ledger.py` alone, the same two functions that post.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from msgspec import Struct

from pipeline import ist
from pipeline.accounts.ledger import LedgerEntry, apply, charge
from pipeline.accounts.model import Account
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

Group = tuple[str, str, str, str, str, bool, str]
SUMS = 7
"""What is summed of a group: requests, errors, prompt, cached, completion and beside tokens, cost."""
"""(org, IST date, model, key_id, provider, byok, tier): what a roll-up groups by."""

Sums = tuple[int, int, int, int, int, int]
"""(requests, errors, prompt tokens, cached tokens, completion tokens, nano-rupees)."""


class Difference(Struct, frozen=True):
    """Two places that should agree and do not. `place` names what is compared, `of` which one of it."""

    place: str
    of: str
    expected: str
    found: str


@dataclass
class Books:
    """What a partition's journal comes to, up to a position."""

    partition: int
    next_position: int = 1
    accounts: dict[str, Account] = field(default_factory=dict)
    groups: dict[Group, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0] * SUMS))
    rates: dict[tuple[str, str, int], Rate] = field(default_factory=dict)
    """Every rate by (model, provider, start): what a row's cost can be computed from again."""
    ledger_rows: int = 0
    ledger_nano: int = 0
    paid: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0]))
    """By payment id: how often and how much was credited, and what refunds and disputes come to, in nano-rupees."""
    redeemed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By org and promo code: how many bonuses."""
    differences: list[Difference] = field(default_factory=list)

    @property
    def request_rows(self) -> int:
        """The number of request rows folded."""
        return sum(sums[0] for sums in self.groups.values())

    def fold(self, record: JournalRecord, registered: Mapping[str, Account]) -> None:
        """Take in one journal record; `registered` tells which keys an account knows."""
        if record.first != self.next_position:
            place = f"journal/{self.partition}"
            self._differ(place, "positions", str(self.next_position), str(record.first))
        for row in decode_rows(record):
            position = position_of(row.id)
            if position != (self.partition, self.next_position):
                place = f"journal/{self.partition}"
                self._differ(place, "id", str((self.partition, self.next_position)), str(position))
            self.next_position = position[1] + 1
            account = self.accounts.get(row.org)
            if account is None:
                account = self.accounts[row.org] = Account(row.org)
                if row.org in registered:
                    account.profile = registered[row.org].profile
            if isinstance(row, RequestRow):
                self._fold_request(account, row)
            else:
                self._fold_entry(account, row)

    def _fold_request(self, account: Account, row: RequestRow) -> None:
        day = ist.day_of(row.at_ms)
        charge(account, row.key_id, trial=row.tier == "trial", day=day, cost_nano=row.cost_nano)
        due_nano = self._due_nano(row)
        if row.cost_nano != due_nano:
            self._differ("cost by its rate", f"row {row.id}", str(due_nano), str(row.cost_nano))
        date = ist.date_of(day).isoformat()
        sums = self.groups[row.org, date, row.model, row.key_id, row.provider, row.byok, row.tier]
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
        self.ledger_nano += row.amount_nano
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
        self.differences.append(Difference(place, of, expected, found))


def compare_accounts(books: Books, stored: Mapping[str, Account]) -> Iterable[Difference]:
    """Compare the worker's balances and budgets with what the journal comes to."""
    for org in sorted(books.accounts.keys() | stored.keys()):
        folded = books.accounts.get(org, Account(org)).spending
        kept = stored.get(org, Account(org)).spending
        for name in ("credited_nano", "debited_nano", "balance_nano", "entry_id"):
            expected, found = getattr(folded, name), getattr(kept, name)
            if expected != found:
                yield Difference(f"state {name}", org, str(expected), str(found))
        for key_id in stored[org].profile.keys if org in stored else ():
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
    place: str, expected: Mapping[Group, Iterable[int]], found: Mapping[Group, Iterable[int]]
) -> Iterable[Difference]:
    """Compare sums by group."""
    for group in sorted(expected.keys() | found.keys()):
        want, have = tuple(expected.get(group, (0,) * SUMS)), tuple(found.get(group, (0,) * SUMS))
        if want != have:
            yield Difference(place, " ".join(map(str, group)), str(want), str(have))
