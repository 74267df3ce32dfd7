"""What of a partition's state the journal's rows do not tell, kept a second time, so that a lost state can be made again.

Owns: which state records these are, what a unit writes of them, and whether they are complete.
Called by: `posting/protocol.py` with each unit and at take-over; `posting/rebuilding.py` makes the state of them again.

Rows tell balances, what keys have used, and which events were charged. Everything else, profiles with keys, orders and
payments, sources' numbers, answers, how far inputs are read, is in `metering.state.beside-journal` under the keys of the
state topic, written in the same transactions. The last record of each is that of `m`, whose header `meta` is a hash of the
state's own: where it is another, or another record is the last, a former owner did not write all of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from pipeline.accounts.model import Spending
from pipeline.posting import answers
from pipeline.posting.state import (
    IDENTITY,
    META_KEY,
    MONEY,
    PROFILE,
    SOURCE,
    TOLD,
    UNPRICED_SLOT,
    PartitionState,
    StateRecord,
)
from pipeline.steps import Headers, Output

KINDS = frozenset((PROFILE, SOURCE, UNPRICED_SLOT, *MONEY, answers.MARK, IDENTITY, TOLD))
"""The first letters of the keys of state records that are kept as they are."""
ALERT = b"l"
"""Of a record that the state topic does not have: what an account's alert goes by. Then comes the org."""
META_HEADER = "meta"
PART_BYTES = 4 * 1024 * 1024
PART_RECORDS = 10_000
"""So much is written at a time where all of it is written."""
RECORD_OVERHEAD_BYTES = 100

AlertMark = tuple[int, int]
"""Whether the balance was below the threshold when last looked at (0 or 1), and when the last alert was ordered."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(AlertMark).decode


def alert_mark(spending: Spending) -> AlertMark:
    """Return what an account's next alert goes by."""
    return int(spending.is_below), spending.alerted_ms


def alert_record(org: str, mark: AlertMark) -> StateRecord:
    """Return the record of an account's alert mark."""
    return ALERT + org.encode(), _pack(mark)


def alert_marks(records: Mapping[bytes, bytes]) -> dict[str, AlertMark]:
    """Return the alert marks among what is kept, by org."""
    return {key[1:].decode(): _unpack(value) for key, value in records.items() if key[:1] == ALERT}


def of_unit(
    state: PartitionState, written: Iterable[StateRecord], alerts: Iterable[StateRecord]
) -> list[Output]:
    """Return what a unit writes that wrote these records to the state topic."""
    kept = [Output(key, value) for key, value in written if key[:1] in KINDS]
    kept += [Output(key, value) for key, value in alerts]
    return [*kept, _last(state)]


def is_complete(state: PartitionState, last: Headers | None) -> bool:
    """Whether all is there of a state as it is, by the headers of the last record that is kept."""
    return last is not None and dict(last).get(META_HEADER) == _hash(state.save_meta()[1])


def whole(
    state: PartitionState, records: Mapping[bytes, bytes], there: Iterable[bytes]
) -> Iterator[list[Output]]:
    """Return all that is kept of a state with these records, in parts; `there` are the keys that are there already.

    Until the last part is written it is not complete.
    """
    kept: dict[bytes, bytes | None] = dict.fromkeys(key for key in there if key != META_KEY)
    kept |= {key: value for key, value in records.items() if key[:1] in KINDS}
    kept |= dict(state.identity_record(identity) for identity in state.identities)
    for org in sorted(state.orgs()):
        mark = alert_mark(state.account(org).spending)
        if any(mark):
            kept |= [alert_record(org, mark)]
    yield from in_parts(Output(key, value) for key, value in kept.items())
    yield [_last(state)]


def in_parts(outputs: Iterable[Output]) -> Iterator[list[Output]]:
    """Return records in parts that one transaction each can carry."""
    part: list[Output] = []
    size = 0
    for output in outputs:
        part.append(output)
        size += len(output.key or b"") + len(output.value or b"") + RECORD_OVERHEAD_BYTES
        if size >= PART_BYTES or len(part) >= PART_RECORDS:
            yield part
            part, size = [], 0
    if part:
        yield part


def _last(state: PartitionState) -> Output:
    key, value = state.save_meta()
    return Output(key, value, [(META_HEADER, _hash(value))])


def _hash(meta: bytes | None) -> bytes:
    assert meta is not None
    return hashlib.blake2b(meta, digest_size=8).hexdigest().encode()
