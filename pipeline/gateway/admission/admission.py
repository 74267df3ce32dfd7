"""Decide from memory whether a request may be served: verdicts, keys, reservations, requests a minute.

Owns: everything that `admit` knows, and the order of its checks.
Called by: `gateway/gateway.py`, which feeds it from Kafka. Next: `gateway/admission/gate.py` checks one key;
`gateway/admission/refusal.py` words the no.

Pure but for memory: the clock is an argument, nothing waits. All calls come from one thread.

The common case, an org with money and a key with no limit of its own, is two look-ups. A key with
anything to check has a gate (gateway/admission/gate.py). There is one order of checks, in `admit`, whose length is
its speed: it is asked before every request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pipeline.accounts.keys import KeyRecord, is_active
from pipeline.accounts.model import TRIAL_REQUESTS_PER_MINUTE, Refused
from pipeline.accounts.verdicts import Verdict, VerdictProgress, floor_nano
from pipeline.gateway.admission import refusal
from pipeline.gateway.admission.amounts import Amount, amount_nano
from pipeline.gateway.admission.gate import Gate
from pipeline.gateway.admission.holds import Hold, Holds, Purse, SentHolds
from pipeline.gateway.admission.refusal import Refusal

WhenStale = Literal["open", "closed"]


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
        unread_limit_ms: int = 0,
    ) -> None:
        """Start knowing nothing: until `caught_up` says otherwise, verdicts count as stale.

        Until then every request is refused, for `unread_limit_ms` from the first `tick` on.
        """
        self._clock_ms = clock_ms
        self._stale_after_ms = stale_after_ms
        self._closed_when_stale = when_stale == "closed"
        self._orgs: dict[str, Org] = {}
        self._records: dict[str, KeyRecord] = {}
        self._by_hash: dict[str, KeyRecord] = {}
        self._holds = Holds(reservation_limit_ms)
        self._sent: dict[int, SentHolds] = {}
        self._passing: set[tuple[str, str]] = set()
        self._read_ms: int | None = None
        self._ticked_ms = clock_ms()
        self._unread_limit_ms = unread_limit_ms
        self._unread_since_ms: int | None = None
        self._strangers_may = not self._closed_when_stale
        self._shut = self._must_refuse()

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
        """Return None where the request may be served, else the refusal. Answers from memory.

        `max_cost_inr` (a string or Decimal, in rupees) is set aside until the request's charge shows,
        `release`, or the time limit; `request_id` ties it to that request exactly. A request that costs 0 at
        most is not stopped by the balance. Raises AmountError.
        """
        known = self._orgs.get(org)
        gate = known.gates.get(key_id) if known is not None else None
        trial = tier == "trial"
        paid = not trial and not byok
        cost_nano = 0
        if max_cost_inr is not None and paid:
            cost_nano = amount_nano(max_cost_inr)
            # A route whose rates are all 0 needs no balance.
            paid = cost_nano > 0
        if self._shut:
            return refusal.STALE
        if gate is not None and gate.ends_ms is not None and gate.ends_ms <= self._clock_ms():
            return gate.end
        if paid and (known is None or known.spendable_nano < (cost_nano or 1)):
            no = self._check_balance(known)
            if no is not None:
                return no
        if trial and (gate is None or gate.rpm is None):
            gate = self._gate_of_stranger(org, key_id)
        if gate is not None:
            no = gate.admit(self._clock_ms())
            if no is not None:
                return no
        if cost_nano:
            purse = known if known is not None else self._org(org)
            self._holds.place(purse, key_id, cost_nano, request_id, self._ticked_ms)
        return None

    def _check_balance(self, known: Org | None) -> Refusal | None:
        """Return why a balance that does not cover a request refuses it; strangers may be let pass."""
        if known is None or not known.known:
            return None if self._strangers_may else refusal.NO_CREDITS
        return refusal.NO_CREDITS if known.spendable_nano <= 0 else refusal.NOT_ENOUGH_CREDITS

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
                gate.set_windows(())
                self._drop_gate_unless_needed(known, key_id)
        for key_id, windows in refused.items():
            known.gate(key_id).set_windows(windows)
            record = self._records.get(key_id)
            if record is not None and record.org == verdict.org:
                known.gate(key_id).set_record(record)

    def take_progress(self, progress: VerdictProgress) -> None:
        """Take in how far the verdicts of a partition count. To be called after those verdicts."""
        self._of_partition(progress.partition).count(progress.requests_offset)

    def take_key(self, record: KeyRecord) -> None:
        """Take in a key's record; the highest version counts."""
        earlier = self._records.get(record.key_id)
        if earlier is not None and earlier.version > record.version:
            return
        self._records[record.key_id] = record
        self._by_hash[record.hash] = record
        known = self._org(record.org)
        known.gate(record.key_id).set_record(record)
        self._drop_gate_unless_needed(known, record.key_id)

    def forget_verdict(self, org: str) -> None:
        """Know no balance and no refused windows of an org any more: its verdict was deleted."""
        known = self._orgs.get(org)
        if known is None:
            return
        known.forget()
        for key_id, gate in list(known.gates.items()):
            gate.set_windows(())
            self._drop_gate_unless_needed(known, key_id)

    def forget_key(self, key_id: str) -> None:
        """Know a key no more, as if it had never been made: its record was deleted."""
        record = self._records.pop(key_id, None)
        if record is None:
            return
        if self._by_hash.get(record.hash) is record:
            del self._by_hash[record.hash]
        known = self._org(record.org)
        known.gate(key_id).forget_record()
        self._drop_gate_unless_needed(known, key_id)

    def caught_up(self, at_ms: int) -> None:
        """Note that everything the broker had at an instant has been taken in."""
        self._read_ms = at_ms if self._read_ms is None else max(at_ms, self._read_ms)
        self._strangers_may = False
        self._shut = self._must_refuse()

    def tick(self) -> None:
        """Do what time brings: end old reservations, forget idle gates, notice stale verdicts."""
        now_ms = self._ticked_ms = self._clock_ms()
        if self._unread_since_ms is None:
            self._unread_since_ms = now_ms
        self._holds.expire(now_ms)
        for org, key_id in list(self._passing):
            known = self._orgs[org]
            gate = known.gates.get(key_id)
            if gate is None or gate.record is not None or not gate.is_needed(now_ms):
                self._passing.discard((org, key_id))
                self._drop_gate_unless_needed(known, key_id)
        self._shut = self._must_refuse()

    def _must_refuse(self) -> bool:
        """Return whether everybody is to be refused: nothing can be known yet, or not any more."""
        if self._read_ms is None and self._unread_limit_ms:
            since_ms = self._unread_since_ms
            if since_ms is None or self._clock_ms() - since_ms < self._unread_limit_ms:
                return True
        return self._closed_when_stale and self.is_stale()

    # --- how it stands ---

    @property
    def is_ready(self) -> bool:
        """Whether everything there was has been read once."""
        return self._read_ms is not None

    def is_stale(self) -> bool:
        """Whether the verdicts may no longer be believed: the broker or the worker has fallen silent."""
        return self.age_ms() > self._stale_after_ms if self._read_ms is not None else True

    def age_ms(self) -> int:
        """Return how old the verdicts may be: since the last word of the broker, or uncounted so long."""
        now_ms = self._clock_ms()
        silent_ms = now_ms - self._read_ms if self._read_ms is not None else now_ms
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
