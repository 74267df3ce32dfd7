"""Count a unit's requests key by key, so that each account is charged once a unit and not once a request.

Owns: the meter of a key, and when what it counted is charged.
Called by: `posting/unit.py`, for each request and when the unit is closed.
Next: `accounts/ledger.py` charges.

A hot key has thousands of requests in a unit. Counting them in one small object each, and charging their
sum, reaches the same account as charging each, without a walk through it every time.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline import ist
from pipeline.accounts.ledger import charge
from pipeline.accounts.model import Account

LARGE_NANO = 10**13
"""A request of ten thousand rupees: dearer ones are charged at once, so that no sum grows without a look."""
DEBITED_MAX_NANO = 4 * 10**18
"""An account that has been debited more than four billion rupees is a mistake: Int64 must hold its balance."""


Day = tuple[int, int, int]
"""An IST day: its number, its first instant, and the first instant after it."""


def day_at(at_ms: int) -> Day:
    """Return the IST day of an instant."""
    day = ist.day_of(at_ms)
    return day, ist.day_start_ms(day), ist.day_end_ms(day)


class Meter(Struct, gc=False):
    """What one key of one org has used in a unit since it was last charged: one IST day, one tier.

    It counts requests at `from_ms` up to, not including, `until_ms`. Before a cost of
    `check_from_nano` or more is counted, `Meters.has_room` has to say that there is room for it.
    """

    account: Account
    org: str
    key_id: str
    trial: bool
    day: int
    from_ms: int
    until_ms: int
    check_from_nano: int
    requests: int = 0
    cost_nano: int = 0

    def post(self) -> None:
        """Charge the account with what was counted, and count from zero."""
        if self.requests:
            charge(
                self.account,
                self.key_id,
                trial=self.trial,
                day=self.day,
                cost_nano=self.cost_nano,
                requests=self.requests,
            )
            self.requests = self.cost_nano = 0


class Meters:
    """The meters of a unit, by key id: nearly always, a key id is one org's."""

    def __init__(self) -> None:
        """Start with none."""
        self.by_key: dict[str, Meter] = {}
        self._day: Day = (0, 0, 0)

    def meter_for(self, account: Account, key_id: str, at_ms: int, *, trial: bool) -> Meter:
        """Return a new meter for a key, and charge what its last one counted: requests keep their order."""
        last = self.by_key.get(key_id)
        if last is not None:
            last.post()
        day, from_ms, until_ms = self._day
        if not from_ms <= at_ms < until_ms:
            day, from_ms, until_ms = self._day = day_at(at_ms)
        check_from_nano = LARGE_NANO if account.spending.debited_nano <= DEBITED_MAX_NANO else 0
        meter = self.by_key[key_id] = Meter(
            account, account.org, key_id, trial, day, from_ms, until_ms, check_from_nano
        )
        return meter

    def has_room(self, account: Account) -> bool:
        """Charge what was counted for an account, and return whether its debits are still a real amount."""
        for meter in self.by_key.values():
            if meter.account is account:
                meter.post()
        return account.spending.debited_nano <= DEBITED_MAX_NANO

    def post(self) -> None:
        """Charge everything that was counted."""
        for meter in self.by_key.values():
            meter.post()
