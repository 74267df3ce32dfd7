"""How far a copy has come, as it is kept on the second cluster, in the transactions in which it is written.

Owns: the records of `metering.state.mirror`: one for each partition that is copied, and one for all. Pure.
Called by: `mirror/copier.py` and `mirror/promotion.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct, field

from pipeline.formats import MIRROR
from pipeline.mirror.offsets import OffsetMap, Run
from pipeline.steps import TopicPlace

HEAD_KEY = b"head"


class MirrorHead(Struct, forbid_unknown_fields=True, tag_field="format", tag=MIRROR.number):
    """What is so of the whole copy.

    `as_of_ms` is when the round began whose records it holds: what the first cluster had taken by then is in it. `positions`
    are the next positions of the journal by the copied state, `journal` those by the copied journal, by partition: where
    the two differ, a round was written in part and the copy cannot be used. `source_ids` are the first cluster's topic ids.
    """

    source: str
    source_ids: dict[str, str]
    as_of_ms: int = 0
    positions: dict[int, int] = field(default_factory=dict)
    journal: dict[int, int] = field(default_factory=dict)
    is_whole: bool = False
    is_promoted: bool = False

    @property
    def is_usable(self) -> bool:
        """Whether workers could go on from it."""
        return self.is_whole and self.positions == self.journal


class MirroredPlace(Struct, frozen=True, forbid_unknown_fields=True, tag_field="format", tag=MIRROR.number):
    """How far a partition is copied: the first cluster's next offset, and where records are whose offsets are kept."""

    next_offset: int
    runs: list[Run] = []

    def offsets(self) -> OffsetMap:
        """Return where the records are."""
        return OffsetMap(self.runs)


encode = msgspec.json.Encoder().encode
decode_head = MIRROR.decoder(MirrorHead)
decode_place = MIRROR.decoder(MirroredPlace)


def key_of(place: TopicPlace) -> bytes:
    """Return the key of a partition's record."""
    return f"{place.topic}/{place.partition}".encode()


def place_record(place: TopicPlace, next_offset: int, offsets: OffsetMap | None) -> tuple[bytes, bytes]:
    """Return key and value of a partition's record."""
    return key_of(place), encode(MirroredPlace(next_offset, [] if offsets is None else offsets.runs))


def places_of(records: Mapping[bytes, bytes]) -> dict[TopicPlace, MirroredPlace]:
    """Return the partitions' records by their place. Raises NewerFormatError where a newer release wrote them."""
    found = {}
    for key, value in records.items():
        if key != HEAD_KEY:
            topic, _, partition = key.decode().rpartition("/")
            found[TopicPlace(topic, int(partition))] = decode_place(value)
    return found
