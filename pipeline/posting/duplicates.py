"""Which events of a partition were charged before.

Owns: the last number of each source that numbers its events, its newest numbers one by one, and a ring of
marks for the others.
Called by: `posting/requests.py`; `posting/state.py` keeps the changes in the state topic.

A numbered source is checked exactly, and for ever while it is in use; one that has been idle for longer
than an event may be late is dropped. Of at most SOURCES_MAX at a time numbers are kept. The ring covers at least the last RING_MARKS other events. An event
that comes by way of another partition is out of its source's order, so its number says nothing by being
low: it is looked for among the last NUMBERS_KEPT that were charged here.

A dead letter may be charged by way of a redrive or by being published again, years apart. Redriven, its number becomes
its source's last, as all before it were read when it became a letter. Published again, it is marked in a ring that
only letters fill: so of the last RING_MARKS letters, waiting or charged by then, each is known.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator
from hashlib import blake2b

import msgspec

from pipeline.ist import DAY_MS

RING_MARKS = 200_000
MARK_BYTES = 16
CHUNK_MARKS = 512
SLOTS = RING_MARKS // CHUNK_MARKS + 2
NUMBERS_KEPT = 200_000
CHUNK_NUMBERS = 512
NUMBER_SLOTS = NUMBERS_KEPT // CHUNK_NUMBERS + 2
SOURCES_MAX = 100_000
"""So many numbered sources a partition knows, some 100 bytes each. The numbers of others say nothing until there is room:
their events go by the ring, like those without a number."""
ALL_BITS = 2**64 - 1
LOOKED_UP_SOURCES_MAX = 1_000
NS_A_MS = 1_000_000
LEAP_MAX = 10**10
"""How far a number may be above the last one of its source. A source may be quiet on a partition for the 35 days that
it is remembered, at 3,000 events a second elsewhere: it counts up to 9 * 10^9 meanwhile."""
CLOCK_NUMBERS_FROM = 10**18
"""From here on numbers are taken for nanoseconds since 1970: 10^18 was in 2001. The gateway's spool begins there anew
whenever it is opened, so its numbers leap to the present, however long it was closed."""
CLOCK_LEAP_MAX = 10**13
"""A spool that is opened again and again moves on by 10^12 each time, and may so be ahead of the clock for a while."""

_pack = msgspec.msgpack.Encoder().encode
_unpack_chunk = msgspec.msgpack.Decoder(tuple[int, bytes]).decode
_unpack_numbers = msgspec.msgpack.Decoder(tuple[int, dict[str, bytes]]).decode
_unpack_source = msgspec.msgpack.Decoder(tuple[str, int]).decode


def mark_of(source: str, event_id: str) -> bytes:
    """Return the mark that stands for an event: 128 bits, so two events never share one."""
    return blake2b(f"{len(source)}:{source}{event_id}".encode(), digest_size=MARK_BYTES).digest()


def charged_letter_mark(mark: bytes) -> bytes:
    """Return the mark that says of a dead letter, known by `mark`, that its event was published again and charged."""
    return blake2b(mark, digest_size=MARK_BYTES, person=b"charged letter").digest()


def is_leap(number: int, last: int, stamp_ms: int) -> bool:
    """Whether a number above the last one of its source is too far above to be that source's own.

    Taken as it is, it would make duplicates of all that the source sends after it. A source that numbers by the clock
    may leap to the present: a day ahead of `stamp_ms`, the broker's time stamp. Of a source that is not known, with -1
    for its last number, any number is the first.
    """
    if last < 0 or number - last <= LEAP_MAX:
        return False
    if last < CLOCK_NUMBERS_FROM:
        return True
    return number - last > CLOCK_LEAP_MAX and number > (stamp_ms + DAY_MS) * NS_A_MS


class Ring:
    """The marks of the last charged events, in chunks that each fill one slot of the state topic."""

    def __init__(self) -> None:
        """Start with no marks."""
        self.known: set[bytes] = set()
        self._chunks: deque[tuple[int, list[bytes]]] = deque()
        self._changed: set[int] = set()

    def add(self, mark: bytes) -> None:
        """Remember a mark, forgetting the oldest chunk when all slots are full."""
        if not self._chunks or len(self._chunks[-1][1]) >= CHUNK_MARKS:
            number = self._chunks[-1][0] + 1 if self._chunks else 0
            self._chunks.append((number, []))
            if len(self._chunks) > SLOTS:
                self.known.difference_update(self._chunks.popleft()[1])
        number, marks = self._chunks[-1]
        marks.append(mark)
        self.known.add(mark)
        self._changed.add(number)

    def take_changes(self) -> Iterator[tuple[int, bytes]]:
        """Return the (slot, value) of each chunk changed since the last call."""
        for number, marks in self._chunks:
            if number in self._changed:
                yield number % SLOTS, _pack((number, b"".join(marks)))
        self._changed.clear()

    @classmethod
    def restored(cls, values: list[bytes]) -> Ring:
        """Return the ring that the values of the slots hold."""
        ring = cls()
        for number, joined in sorted(_unpack_chunk(value) for value in values):
            marks = [joined[i : i + MARK_BYTES] for i in range(0, len(joined), MARK_BYTES)]
            ring._chunks.append((number, marks))
            ring.known.update(marks)
        return ring


class RecentNumbers:
    """The numbers charged last, by source, in chunks that each fill one slot of the state topic.

    Adding must be cheap, since every numbered event is added, and `has` is called only for the few that come by
    way of another partition. So the set of a source's numbers is made at the first `has` for that source, and kept
    up to date from then on, for up to LOOKED_UP_SOURCES_MAX sources. Numbers have up to 20 digits and are kept in
    64 bits: those of one source that are remembered together are never 2^64 apart.
    """

    def __init__(self) -> None:
        """Start with no numbers."""
        self._chunks: deque[tuple[int, dict[str, array[int]]]] = deque()
        self._room = 0
        self._changed: set[int] = set()
        self._looked_up: dict[str, set[int]] = {}

    def add(self, source: str, numbers: list[int]) -> None:
        """Remember numbers of a source, forgetting the oldest chunk when all slots are full."""
        try:
            added = array("Q", numbers)
        except OverflowError:
            added = array("Q", [number & ALL_BITS for number in numbers])
        if source in self._looked_up:
            self._looked_up[source].update(added)
        while added:
            if not self._room:
                self._open_chunk()
            chunk, by_source = self._chunks[-1]
            part, added = added[: self._room], added[self._room :]
            self._room -= len(part)
            by_source.setdefault(source, array("Q")).extend(part)
            self._changed.add(chunk)

    def _open_chunk(self) -> None:
        self._chunks.append((self._chunks[-1][0] + 1 if self._chunks else 0, {}))
        self._room = CHUNK_NUMBERS
        if len(self._chunks) > NUMBER_SLOTS:
            for source, numbers in self._chunks.popleft()[1].items():
                if source in self._looked_up:
                    self._looked_up[source].difference_update(numbers)

    def has(self, source: str, number: int) -> bool:
        """Whether a number of a source is among those remembered."""
        if source not in self._looked_up:
            if len(self._looked_up) >= LOOKED_UP_SOURCES_MAX:
                self._looked_up.clear()
            self._looked_up[source] = {n for _, by_source in self._chunks for n in by_source.get(source, ())}
        return number & ALL_BITS in self._looked_up[source]

    def knows(self, source: str, number: int) -> bool:
        """Whether a number is among those remembered, for one that is asked about once: it takes some milliseconds."""
        wanted = number & ALL_BITS
        return any(wanted in by_source.get(source, ()) for _, by_source in self._chunks)

    def take_changes(self) -> Iterator[tuple[int, bytes]]:
        """Return the (slot, value) of each chunk changed since the last call."""
        for chunk, by_source in self._chunks:
            if chunk in self._changed:
                packed = {source: numbers.tobytes() for source, numbers in by_source.items()}
                yield chunk % NUMBER_SLOTS, _pack((chunk, packed))
        self._changed.clear()

    @classmethod
    def restored(cls, values: list[bytes]) -> RecentNumbers:
        """Return the numbers that the values of the slots hold."""
        recent = cls()
        for chunk, packed in sorted((_unpack_numbers(value) for value in values), key=lambda found: found[0]):
            by_source = {source: array("Q", numbers) for source, numbers in packed.items()}
            recent._chunks.append((chunk, by_source))
            recent._room = CHUNK_NUMBERS - sum(map(len, by_source.values()))
        return recent


class NumberedSources:
    """The last number charged of each source, and when it last sent an event."""

    def __init__(self) -> None:
        """Start with no source."""
        self.last: dict[str, int] = {}
        self._seen_ms: dict[str, int] = {}

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another source."""
        return len(self.last) >= SOURCES_MAX

    def take_changes(self, changed: dict[str, None], at_ms: int) -> Iterator[tuple[str, bytes]]:
        """Return the (source, value) of the sources that a unit changed at an instant."""
        for source in changed:
            self._seen_ms[source] = at_ms
            # As text: twenty digits do not fit into MessagePack's 64 bits.
            yield source, _pack((str(self.last[source]), at_ms))

    def drop_idle(self, before_ms: int) -> list[str]:
        """Forget the sources that have sent no event since an instant, and return them."""
        idle = [source for source, seen_ms in self._seen_ms.items() if seen_ms < before_ms]
        for source in idle:
            del self.last[source], self._seen_ms[source]
        return idle

    def restore(self, source: str, value: bytes) -> None:
        """Take in the value of a source's state record."""
        number, self._seen_ms[source] = _unpack_source(value)
        self.last[source] = int(number)
