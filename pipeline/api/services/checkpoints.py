"""The signed checkpoints as a server knows them: all of them, and where the trees of their days are kept.

Owns: `CheckpointBook`, fed from `metering.state.checkpoints`.
Called by: `api/server/main.py` feeds one; `api/services/proving.py` asks it. The app has it in its context.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from pipeline import topics
from pipeline.kafka.follow import Subscription
from pipeline.notary import kept
from pipeline.notary.checkpoint import Handover, SignedCheckpoint
from pipeline.notary.kept import DayIndex, KeptCheckpoint

ReadChunks = Callable[[Iterable[int]], Awaitable[list[bytes]]]
"""Returns the records of `metering.state.notary` at some offsets. Raises KeyError for one that is not there, and a KafkaError."""


async def no_chunks(offsets: Iterable[int]) -> list[bytes]:
    """Return no records: for an app without Kafka. Raises KeyError where one is asked for."""
    for offset in offsets:
        raise KeyError(offset)
    return []


class CheckpointBook:
    """Every checkpoint, by its day, and the indexes of those days whose trees are kept."""

    def __init__(self, read_chunks: ReadChunks = no_chunks) -> None:
        """Start without any."""
        self.read_chunks = read_chunks
        self._kept: dict[int, KeptCheckpoint] = {}
        self._indexes: dict[int, DayIndex] = {}

    def subscription(self) -> Subscription:
        """Return what keeps the book up to date."""
        return Subscription(topics.CHECKPOINTS_STATE, self.put, self.delete)

    def put(self, key: bytes, value: bytes) -> None:
        """Take a record in. Raises NewerFormatError, msgspec.MsgspecError and ValueError."""
        if key.startswith(kept.CHECKPOINT):
            self._kept[kept.day_of_key(key)] = kept.decode_checkpoint(value)
        else:
            self._indexes[kept.day_of_key(key)] = kept.decode_index(value)

    def delete(self, key: bytes) -> None:
        """Forget a record that is gone. Raises ValueError for an unknown key."""
        which = self._kept if key.startswith(kept.CHECKPOINT) else self._indexes
        which.pop(kept.day_of_key(key), None)

    @property
    def checkpoints(self) -> list[SignedCheckpoint]:
        """All checkpoints, oldest first."""
        return [self._kept[day].checkpoint for day in sorted(self._kept)]

    @property
    def first_day(self) -> int | None:
        """The first day that was signed, None where none was."""
        return min(self._kept, default=None)

    @property
    def public_key(self) -> str | None:
        """The key of the newest checkpoint, None where there is none."""
        return self._kept[max(self._kept)].checkpoint.key if self._kept else None

    @property
    def handovers(self) -> tuple[Handover, ...]:
        """Every hand-over there ever was, oldest first."""
        return tuple(each.handover for each in self.checkpoints if each.handover is not None)

    def whole_days(self, first: int, last: int) -> list[int]:
        """Return the days from the first on, or from the first that was ever signed, that are kept whole, without a gap."""
        start = max(first, self.first_day) if self.first_day is not None else last + 1
        days = []
        for day in range(start, last + 1):
            if day not in self._kept or day not in self._indexes:
                break
            days.append(day)
        return days

    def of(self, day: int) -> tuple[KeptCheckpoint, DayIndex]:
        """Return the checkpoint and the index of a day that is kept whole."""
        return self._kept[day], self._indexes[day]
