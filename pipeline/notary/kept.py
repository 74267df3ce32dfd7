"""What the notary keeps: a day's checkpoint, the chunks of its tree, and where these are. Pure.

Owns: the records of both topics, `metering.state.checkpoints` and `metering.state.notary`, and the tree of a day as it is kept.
Called by: `notary/notary.py` writes them; `api/services/proving.py` reads them.

Of each closed day there are a checkpoint, which is public but for the day's secret, an index, and the chunks of the tree. The
chunks go first, into a topic of their own, as the index names their offsets there. The index is also how far the journal was
taken, so whoever goes on begins with the newest. All but the checkpoints can be made again from the journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import msgspec
from msgspec import Struct

from pipeline import ist
from pipeline.formats import NOTARY_CHUNKS, NOTARY_DAYS
from pipeline.notary.chain import OrgState
from pipeline.notary.checkpoint import NotaryKeys, SignedCheckpoint, signed
from pipeline.notary.day import NotaryError, OpenDay, ReadUpTo
from pipeline.notary.tree import (
    OrgPath,
    Placed,
    chunk_bits_for,
    chunk_root,
    day_secret,
    in_chunks,
    path_of,
    placed,
    root_of,
)

CHECKPOINT, INDEX = b"checkpoint/", b"index/"


class KeptCheckpoint(Struct, frozen=True, tag_field="format", tag=1):
    """A checkpoint, and the secret that the tree of its day was made with."""

    secret: bytes
    checkpoint: SignedCheckpoint


class DayIndex(Struct, frozen=True, tag_field="format", tag=1):
    """Where a day's tree is kept, and how far the journal was taken at its end, by partition.

    There are 2^bits chunks; `offsets` has the offset of each, and `roots` the root of its subtree, empty for one without orgs.
    """

    bits: int
    offsets: tuple[int, ...]
    roots: tuple[bytes, ...]
    read: dict[int, ReadUpTo]

    @property
    def roots_there(self) -> dict[int, bytes]:
        """The roots of the chunks that have orgs, by the chunk's number."""
        return {number: root for number, root in enumerate(self.roots) if root}


class DayChunk(Struct, frozen=True, tag_field="format", tag=1):
    """The orgs of a chunk, in the order of their places."""

    orgs: tuple[Placed, ...]

    def at(self, place: int) -> Placed | None:
        """Return the org at a place, None where there is none."""
        return next((each for each in self.orgs if each.place == place), None)


encode = msgspec.json.Encoder().encode
decode_checkpoint = NOTARY_DAYS.decoder(KeptCheckpoint)
decode_index = NOTARY_DAYS.decoder(DayIndex)
decode_chunk = NOTARY_CHUNKS.decoder(DayChunk)


def checkpoints_of(records: Mapping[bytes, bytes]) -> dict[int, KeptCheckpoint]:
    """Return the checkpoints among the records of the topic, by day. Raises NewerFormatError."""
    found = {key: decode_checkpoint(value) for key, value in records.items() if key.startswith(CHECKPOINT)}
    return {day_of_key(key): found[key] for key in sorted(found)}


def indexes_of(records: Mapping[bytes, bytes]) -> dict[int, DayIndex]:
    """Return the indexes among the records of the topic, by day. Raises NewerFormatError."""
    return {day_of_key(key): decode_index(value) for key, value in records.items() if key.startswith(INDEX)}


def day_of_key(key: bytes) -> int:
    """Return the day that a checkpoint or an index is of. Raises ValueError for another key."""
    return ist.day_of_date(date.fromisoformat(key.partition(b"/")[2].decode()))


def checkpoint_key(day: int) -> bytes:
    """Return the key of a day's checkpoint."""
    return CHECKPOINT + ist.date_of(day).isoformat().encode()


def index_key(day: int) -> bytes:
    """Return the key of a day's index."""
    return INDEX + ist.date_of(day).isoformat().encode()


def chunk_key(day: int, number: int) -> bytes:
    """Return the key of a chunk."""
    return b"%s/%d" % (ist.date_of(day).isoformat().encode(), number)


class DayTree:
    """A day's tree, in chunks."""

    def __init__(self, secret: bytes, states: Mapping[str, OrgState]) -> None:
        """Build it of what is known of each org. Raises TooManyOrgsError."""
        self.secret = secret
        self.bits = chunk_bits_for(len(states))
        self.chunks = [tuple(chunk) for chunk in in_chunks(placed(secret, states), self.bits)]
        self.roots = tuple(chunk_root(secret, chunk, self.bits) or b"" for chunk in self.chunks)
        there = {number: root for number, root in enumerate(self.roots) if root}
        self.root = root_of(secret, there, self.bits)

    def index(self, offsets: Sequence[int], read: Mapping[int, ReadUpTo]) -> DayIndex:
        """Return the index of the tree, whose chunks are kept at these offsets."""
        return DayIndex(self.bits, tuple(offsets), self.roots, dict(read))


def path_in(secret: bytes, org: Placed, chunk: DayChunk, index: DayIndex) -> OrgPath:
    """Return the path of an org in the tree of a day."""
    return path_of(secret, org, chunk.orgs, index.roots_there, index.bits)


def closed_day(
    keys: NotaryKeys,
    deployment: str,
    day: OpenDay,
    kept: KeptCheckpoint | None,
    last: SignedCheckpoint | None,
) -> tuple[KeptCheckpoint, DayTree]:
    """Return the checkpoint and the tree of a day that is closed, and of which `kept` may have been signed before.

    What was signed stays signed: then the tree is made again, and has to have the root that was signed. Raises NotaryError
    where it has not, NotaryKeyError and TooManyOrgsError.
    """
    if kept is None:
        secret = day_secret(keys.newest.seed, day.day)
        tree = DayTree(secret, day.states)
        return KeptCheckpoint(secret, signed(keys, deployment, day.day, tree.root, last)), tree
    tree = DayTree(kept.secret, day.states)
    if tree.root.hex() != kept.checkpoint.root:
        raise NotaryError(
            f"the journal up to {kept.checkpoint.day} is not the one that was signed: {kept.checkpoint.root} was its root, and now "
            f"it is {tree.root.hex()}. `metering verify` says which org's rows differ."
        )
    return kept, tree
