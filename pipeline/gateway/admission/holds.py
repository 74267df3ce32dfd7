"""Reservations: how much of an org's balance this gateway has promised away and not yet seen charged.

Owns: the life of a reservation: open, published, sent, counted.
Called by: `gateway/admission/admission.py`. Next: `gateway/admission/reservation_heap.py`. Pure: the time is an argument.

Open reservations end by being published with an event, released, or by a time limit. A published one
holds until the worker's progress counts the event's offset. Where an event does not name its request,
the smallest open reservation of its key is taken: that can hold too much for a while, never too little.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from msgspec import Struct

from pipeline.gateway.admission.reservation_heap import ReservationHeap

SENT_KEPT = 50_000
"""Beyond this many sent reservations of a partition the oldest are kept as one sum an org."""


class Purse:
    """What an org may spend here, in nano-rupees: the floor of its told balance less what is held.

    `unnamed` has each key's open reservations that name no request; `named` has the others, by the
    request's id. They are None while there is none, as most orgs have none.
    """

    __slots__ = ("floor_nano", "known", "named", "spendable_nano", "unnamed")

    def __init__(self) -> None:
        """Start at zero, with no verdict known."""
        self.floor_nano = self.spendable_nano = 0
        self.known = False
        self.named: dict[str, Hold] | None = None
        self.unnamed: dict[str, ReservationHeap] | None = None

    @property
    def held_nano(self) -> int:
        """What is set aside."""
        return self.floor_nano - self.spendable_nano

    def tell(self, floor_nano: int) -> None:
        """Take in the lowest that the balance can be."""
        self.spendable_nano += floor_nano - self.floor_nano
        self.floor_nano, self.known = floor_nano, True

    def forget(self) -> None:
        """Know no balance any more; what is held stays held."""
        self.tell(0)
        self.known = False

    def hold(self, amount_nano: int) -> None:
        """Set an amount aside; a negative one gives it back."""
        self.spendable_nano -= amount_nano


class Hold(Struct, eq=False, gc=False):
    """One reservation. `number` orders the open ones; `deadline_ms` ends it while it is open."""

    purse: Purse
    key_id: str
    amount_nano: int
    request_id: str | None
    number: int
    deadline_ms: int


class Holds:
    """The open reservations of a gateway."""

    def __init__(self, limit_ms: int) -> None:
        """Start with none; each ends `limit_ms` after it was placed."""
        self._limit_ms = limit_ms
        self._number = 0
        self._open: dict[int, Hold] = {}

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def place(self, purse: Purse, key_id: str, amount_nano: int, request_id: str | None, now_ms: int) -> None:
        """Open a reservation. A request that has one already gets this one in its place."""
        named = purse.named
        if named is not None and request_id in named:
            earlier = named[request_id]
            self._remove(earlier)
            purse.hold(-earlier.amount_nano)
            named = purse.named
        purse.spendable_nano -= amount_nano
        self._number = number = self._number + 1
        hold = Hold(purse, key_id, amount_nano, request_id, number, now_ms + self._limit_ms)
        if named is None or request_id is None:
            self._add(hold)
            return
        self._open[number] = named[request_id] = hold

    def reopen(self, hold: Hold, now_ms: int) -> None:
        """Take back a reservation whose event was not stored after all."""
        self._number += 1
        hold.number, hold.deadline_ms = self._number, now_ms + self._limit_ms
        self._add(hold)

    def _add(self, hold: Hold) -> None:
        self._open[hold.number] = hold
        purse = hold.purse
        if hold.request_id is not None:
            if purse.named is None:
                purse.named = {}
            purse.named[hold.request_id] = hold
            return
        if purse.unnamed is None:
            purse.unnamed = {}
        of_key = purse.unnamed.get(hold.key_id)
        if of_key is None:
            of_key = purse.unnamed[hold.key_id] = ReservationHeap()
        of_key.add(hold.amount_nano, hold.number)

    def take(
        self, purse: Purse, key_id: str, request_id: str | None = None, amount_nano: int | None = None
    ) -> Hold | None:
        """Return the reservation of a request, open no longer but still held; None where there is none.

        Without a request id it is the key's smallest, or the one of the amount given.
        """
        hold = self._find(purse, key_id, request_id, amount_nano)
        if hold is not None:
            self._remove(hold)
        return hold

    def _find(
        self, purse: Purse, key_id: str, request_id: str | None, amount_nano: int | None
    ) -> Hold | None:
        if request_id is not None:
            return purse.named.get(request_id) if purse.named is not None else None
        of_key = purse.unnamed.get(key_id) if purse.unnamed is not None else None
        number = of_key.find(amount_nano) if of_key is not None else None
        return self._open[number] if number is not None else None

    def _remove(self, hold: Hold) -> None:
        del self._open[hold.number]
        purse = hold.purse
        if hold.request_id is not None and purse.named is not None:
            del purse.named[hold.request_id]
            if not purse.named:
                purse.named = None
        elif purse.unnamed is not None:
            of_key = purse.unnamed[hold.key_id]
            of_key.remove(hold.amount_nano)
            if not of_key:
                del purse.unnamed[hold.key_id]
                if not purse.unnamed:
                    purse.unnamed = None

    def expire(self, now_ms: int) -> int:
        """Give back what has been open for too long, and return how many that were."""
        expired = 0
        while self._open:
            hold = next(iter(self._open.values()))
            if hold.deadline_ms > now_ms:
                break
            self._remove(hold)
            hold.purse.hold(-hold.amount_nano)
            expired += 1
        return expired


class SentHolds:
    """The reservations of one partition whose events Kafka has and the verdicts do not count yet."""

    def __init__(self) -> None:
        """Start with none, knowing no progress."""
        self._sent: deque[tuple[int, Purse, int]] = deque()
        self._fold_beyond = SENT_KEPT
        self._counted_to = -1
        self._first: tuple[int, int] | None = None
        self._last: tuple[int, int] | None = None

    def note(self, offset: int, now_ms: int) -> None:
        """Note that a record of ours is in Kafka at an offset."""
        if offset >= self._counted_to:
            self._last = offset, now_ms
            if self._first is None:
                self._first = self._last

    def add(self, offset: int, purse: Purse, amount_nano: int) -> None:
        """Hold an amount until the record at an offset is counted."""
        if offset < self._counted_to:
            purse.hold(-amount_nano)
            return
        self._sent.append((offset, purse, amount_nano))
        if len(self._sent) > self._fold_beyond:
            self._fold()

    def count(self, counted_to: int) -> None:
        """Give back what is counted now that the verdicts count every record below an offset."""
        if counted_to < self._counted_to:
            # The partition's log began anew: nothing held for the old one can ever be counted.
            self._drop(self._sent)
            self._sent.clear()
            self._first = self._last = None
        self._counted_to = counted_to
        while self._sent and self._sent[0][0] < counted_to:
            self._drop([self._sent.popleft()])
        if self._last is not None and self._last[0] < counted_to:
            self._first = self._last = None
        elif self._first is not None and self._first[0] < counted_to:
            self._first = self._last

    def waiting_ms(self, now_ms: int) -> int:
        """Return how long a record of ours has been waiting to be counted, 0 where none is."""
        return 0 if self._first is None else max(0, now_ms - self._first[1])

    @staticmethod
    def _drop(sent: Iterable[tuple[int, Purse, int]]) -> None:
        for _, purse, amount_nano in sent:
            purse.hold(-amount_nano)

    def _fold(self) -> None:
        """Keep the older half as one sum an org, at the newest offset of that half."""
        sums: dict[Purse, int] = {}
        offset = 0
        for _ in range(len(self._sent) // 2):
            offset, purse, amount_nano = self._sent.popleft()
            sums[purse] = sums.get(purse, 0) + amount_nano
        self._sent.extendleft((offset, purse, amount_nano) for purse, amount_nano in sums.items())
        # With very many orgs folding gains little, and must not be tried again at every event.
        self._fold_beyond = max(SENT_KEPT, 4 * len(sums))
