"""Decide from memory whether a request may be served: verdicts, keys, reservations, requests a minute.

Owns: everything that `admit` knows, and the order of its checks.
Called by: `gateway/gateway.py`, which feeds it from Kafka. Next: `gateway/refusal.py` words the no.

Pure but for memory: the clock is an argument, nothing waits. All calls come from one thread.

The common case, an org with money and a key with no limit of its own, is two look-ups. A key with
anything to check (a limit a minute, an expiry, a revocation, a refused window) has a gate.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from pipeline.accounts.keys import KeyRecord, is_active
from pipeline.accounts.model import TRIAL_REQUESTS_PER_MINUTE, Refused
from pipeline.accounts.verdicts import Progress, Verdict, floor_nano
from pipeline.gateway import refusal
from pipeline.gateway.holds import Hold, Holds, Purse, SentHolds
from pipeline.gateway.minute import Minute
from pipeline.gateway.refusal import Refusal
from pipeline.money import AmountError, parse_inr

WhenStale = Literal["open", "closed"]
Amount = str | int | Decimal
REVOKED_MS = -1


class Gate:
    """What has to be checked of a key beyond its org's balance.

    `ends_ms` is when the key stops being valid: never (None), at its expiry, or long ago once revoked.
    """

    __slots__ = ("ends_ms", "minute", "record", "rpm", "windows")

    def __init__(self) -> None:
        """Start with nothing to check."""
        self.record: KeyRecord | None = None
        self.windows: tuple[Refused, ...] = ()
        self.rpm: int | None = None
        self.ends_ms: int | None = None
        self.minute = Minute()

    def set_record(self, record: KeyRecord) -> None:
        """Take in what the org set for the key."""
        self.record = record
        self.ends_ms = REVOKED_MS if record.revoked else record.expires_ms
        self.rpm = record.rpm_limit
        if record.tier == "trial":
            self.rpm = min(record.rpm_limit or TRIAL_REQUESTS_PER_MINUTE, TRIAL_REQUESTS_PER_MINUTE)

    def is_needed(self, now_ms: int) -> bool:
        """Whether there is anything to check or remember."""
        if self.windows or self.ends_ms is not None:
            return True
        return self.rpm is not None and (self.record is not None or not self.minute.is_idle(now_ms))


class Org(Purse):
    """An org as a gateway knows it: its purse, and the gates of those of its keys that have one."""

    __slots__ = ("gates",)

    def __init__(self) -> None:
        """Start knowing nothing."""
        super().__init__()
        self.gates: dict[str, Gate] = {}

    def gate(self, key_id: str) -> Gate:
        """Return a key's gate, a new one where there is none."""
        gate = self.gates.get(key_id)
        if gate is None:
            gate = self.gates[key_id] = Gate()
        return gate


@lru_cache(maxsize=65_536, typed=True)
def amount_nano(amount_inr: Amount) -> int:
    """Return an amount to reserve in nano-rupees. Raises AmountError for a float or a negative one."""
    if isinstance(amount_inr, float):
        raise AmountError(f"{amount_inr!r} is a float; give the amount as a string or a Decimal")
    nano = parse_inr(amount_inr)
    if nano < 0:
        raise AmountError(f"{amount_inr} is negative")
    return nano


class Admission:
    """The memory of one gateway, and what it says to a request.

    `tick` is to be called every second or so: the time limit of reservations is as exact as that.
    """

    def __init__(
        self,
        clock_ms: Callable[[], int],
        *,
        when_stale: WhenStale,
        stale_after_ms: int,
        reservation_limit_ms: int,
    ) -> None:
        """Start knowing nothing: until `heard` says otherwise, verdicts count as stale."""
        self._clock_ms = clock_ms
        self._stale_after_ms = stale_after_ms
        self._closed_when_stale = when_stale == "closed"
        self._orgs: dict[str, Org] = {}
        self._records: dict[tuple[str, str], KeyRecord] = {}
        self._by_hash: dict[str, KeyRecord] = {}
        self._holds = Holds(reservation_limit_ms)
        self._sent: dict[int, SentHolds] = {}
        self._passing: set[tuple[str, str]] = set()
        self._heard_ms: int | None = None
        self._ticked_ms = clock_ms()
        self._strangers_may = not self._closed_when_stale
        self._shut = self._closed_when_stale

    # --- asking ---

    def admit(
        self,
        org: str,
        key_id: str,
        tier: str = "standard",
        byok: bool = False,
        max_cost_inr: Amount | None = None,
        request_id: str | None = None,
    ) -> Refusal | None:
        """Return None where the request may be served, else why not. Raises AmountError."""
        known = self._orgs.get(org)
        if known is not None and known.spendable_nano > 0 and tier == "standard" and not self._shut:
            # The rest of this block is `_decide` for the three commonest cases, without its calls.
            gate = known.gates.get(key_id)
            if max_cost_inr is None:
                if gate is None:
                    return None
                if gate.rpm is not None and gate.ends_ms is None and not gate.windows:
                    wait_s = gate.minute.admit(self._clock_ms(), gate.rpm)
                    return refusal.of_rate(gate.rpm, wait_s) if wait_s else None
            elif gate is None and not byok:
                cost_nano = amount_nano(max_cost_inr)
                if 0 < cost_nano <= known.spendable_nano:
                    self._holds.place(known, key_id, cost_nano, request_id, self._ticked_ms)
                    return None
        return self._decide(known, org, key_id, tier == "trial", byok, max_cost_inr, request_id)

    def _decide(
        self,
        known: Org | None,
        org: str,
        key_id: str,
        trial: bool,
        byok: bool,
        max_cost_inr: Amount | None,
        request_id: str | None,
    ) -> Refusal | None:
        paid = not trial and not byok
        cost_nano = amount_nano(max_cost_inr) if max_cost_inr is not None and paid else 0
        gate = known.gates.get(key_id) if known is not None else None
        no = refusal.STALE if self._shut else None
        if no is None and gate is not None and gate.ends_ms is not None:
            no = _check_end(gate.ends_ms, self._clock_ms())
        if no is None and paid:
            no = self._check_balance(known, cost_nano)
        if trial and (gate is None or gate.rpm is None):
            gate = self._gate_of_stranger(org, key_id)
        if no is None and gate is not None:
            no = _check_gate(gate, self._clock_ms())
        if no is None and cost_nano:
            purse = known if known is not None else self._org(org)
            self._holds.place(purse, key_id, cost_nano, request_id, self._ticked_ms)
        return no

    def _check_balance(self, known: Org | None, cost_nano: int) -> Refusal | None:
        if known is None or not known.known:
            return None if self._strangers_may else refusal.NO_CREDITS
        if known.spendable_nano <= 0:
            return refusal.NO_CREDITS
        return refusal.NOT_ENOUGH_CREDITS if known.spendable_nano < cost_nano else None

    def _gate_of_stranger(self, org: str, key_id: str) -> Gate:
        """Return the gate of a trial key that nobody registered: held to the trial ceiling all the same."""
        gate = self._org(org).gate(key_id)
        gate.rpm = TRIAL_REQUESTS_PER_MINUTE
        self._passing.add((org, key_id))
        return gate

    def key_of_hash(self, key_hash: str) -> KeyRecord | None:
        """Return the active key whose secret has this SHA-256 in hex."""
        record = self._by_hash.get(key_hash)
        return record if record is not None and is_active(record, self._clock_ms()) else None

    # --- reservations ---

    def release(
        self, org: str, key_id: str, max_cost_inr: Amount | None = None, request_id: str | None = None
    ) -> bool:
        """Give a reservation back, and say whether there was one."""
        wanted_nano = None if max_cost_inr is None else amount_nano(max_cost_inr)
        known = self._orgs.get(org)
        hold = self._holds.take(known, key_id, request_id, wanted_nano) if known is not None else None
        if hold is None:
            return False
        hold.purse.hold(-hold.amount_nano)
        return True

    def publishing(self, org: str, key_id: str, request_id: str | None) -> Hold | None:
        """Return the reservation that an event about to be published takes with it, if there is one."""
        known = self._orgs.get(org)
        return self._holds.take(known, key_id, request_id) if known is not None else None

    def unpublished(self, hold: Hold) -> None:
        """Open a reservation again whose event was not stored."""
        self._holds.reopen(hold, self._clock_ms())

    def spooled_before(self, org: str, reserved_nano: int) -> Hold:
        """Return a reservation, already published, for an event found in the spool at start."""
        hold = Hold(self._org(org), "", reserved_nano, None, 0, 0)
        hold.purse.hold(reserved_nano)
        return hold

    def cost_nothing(self, hold: Hold) -> None:
        """Give a published reservation back: its event is a free one."""
        hold.purse.hold(-hold.amount_nano)

    def sent(self, partition: int, offset: int, holds: list[Hold]) -> None:
        """Note that Kafka has a record of ours, and the reservations of its events."""
        of_partition = self._of_partition(partition)
        of_partition.note(offset, self._clock_ms())
        for hold in holds:
            of_partition.add(offset, hold.purse, hold.amount_nano)

    # --- being told ---

    def take_verdict(self, verdict: Verdict) -> None:
        """Take in an org's balance and its keys' refused windows, in place of the earlier ones."""
        known = self._org(verdict.org)
        known.tell(floor_nano(verdict.balance_nano))
        refused: dict[str, tuple[Refused, ...]] = {}
        for window in verdict.refused:
            refused[window.key_id] = (*refused.get(window.key_id, ()), window)
        for key_id, gate in list(known.gates.items()):
            if key_id not in refused and gate.windows:
                gate.windows = ()
                self._drop_gate_unless_needed(known, key_id)
        for key_id, windows in refused.items():
            known.gate(key_id).windows = windows
            record = self._records.get((verdict.org, key_id))
            if record is not None:
                known.gate(key_id).set_record(record)

    def take_progress(self, progress: Progress) -> None:
        """Take in how far the verdicts of a partition count. To be called after those verdicts."""
        self._of_partition(progress.partition).count(progress.requests_offset)

    def take_key(self, record: KeyRecord) -> None:
        """Take in a key's record; the highest version counts."""
        place = record.org, record.key_id
        earlier = self._records.get(place)
        if earlier is not None and earlier.version > record.version:
            return
        self._records[place] = record
        self._by_hash[record.hash] = record
        known = self._org(record.org)
        known.gate(record.key_id).set_record(record)
        self._drop_gate_unless_needed(known, record.key_id)

    def heard(self, at_ms: int) -> None:
        """Note that everything the broker had at an instant has been taken in."""
        self._heard_ms = at_ms if self._heard_ms is None else max(at_ms, self._heard_ms)
        self._strangers_may = False
        self._shut = self._closed_when_stale and self.is_stale()

    def tick(self) -> None:
        """Do what time brings: end old reservations, forget idle gates, notice stale verdicts."""
        now_ms = self._ticked_ms = self._clock_ms()
        self._holds.expire(now_ms)
        for org, key_id in list(self._passing):
            known = self._orgs[org]
            gate = known.gates.get(key_id)
            if gate is None or gate.record is not None or not gate.is_needed(now_ms):
                self._passing.discard((org, key_id))
                self._drop_gate_unless_needed(known, key_id)
        self._shut = self._closed_when_stale and self.is_stale()

    # --- how it stands ---

    @property
    def is_ready(self) -> bool:
        """Whether everything there was has been read once."""
        return self._heard_ms is not None

    def is_stale(self) -> bool:
        """Whether the verdicts may no longer be believed: the broker or the worker has fallen silent."""
        return self.age_ms() > self._stale_after_ms if self._heard_ms is not None else True

    def age_ms(self) -> int:
        """Return how old the verdicts may be: since the last word of the broker, or uncounted so long."""
        now_ms = self._clock_ms()
        silent_ms = now_ms - self._heard_ms if self._heard_ms is not None else now_ms
        return max(silent_ms, self.uncounted_ms(), 0)

    def uncounted_ms(self) -> int:
        """Return how long the worker has not counted something that this gateway sent."""
        now_ms = self._clock_ms()
        return max((sent.waiting_ms(now_ms) for sent in self._sent.values()), default=0)

    @property
    def orgs_known(self) -> int:
        """How many orgs are in memory."""
        return len(self._orgs)

    @property
    def reservations_open(self) -> int:
        """How many reservations wait for their event."""
        return len(self._holds)

    def spendable_nano(self, org: str) -> int | None:
        """Return what an org may spend here, in nano-rupees; None where no verdict is known."""
        known = self._orgs.get(org)
        return known.spendable_nano if known is not None and known.known else None

    def _org(self, org: str) -> Org:
        known = self._orgs.get(org)
        if known is None:
            known = self._orgs[org] = Org()
        return known

    def _of_partition(self, partition: int) -> SentHolds:
        sent = self._sent.get(partition)
        if sent is None:
            sent = self._sent[partition] = SentHolds()
        return sent

    def _drop_gate_unless_needed(self, known: Org, key_id: str) -> None:
        gate = known.gates.get(key_id)
        if gate is not None and not gate.is_needed(self._clock_ms()):
            del known.gates[key_id]


def _check_end(ends_ms: int, now_ms: int) -> Refusal | None:
    if ends_ms > now_ms:
        return None
    return refusal.KEY_REVOKED if ends_ms == REVOKED_MS else refusal.KEY_EXPIRED


def _check_gate(gate: Gate, now_ms: int) -> Refusal | None:
    for window in gate.windows:
        if window.from_ms <= now_ms < window.until_ms:
            return refusal.of_window(window, now_ms)
    if gate.rpm is not None:
        wait_s = gate.minute.admit(now_ms, gate.rpm)
        if wait_s:
            return refusal.of_rate(gate.rpm, wait_s)
    return None
