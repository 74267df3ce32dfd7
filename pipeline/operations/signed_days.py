"""Compare what the notary has signed with the journal and the database as they are now.

Owns: which days are compared, and how their rows are read.
Called by: `operations/verify.py`. Next: `notary/audit.py` says what differs.

Of each signed day: its checkpoint has a good signature and follows the one before; the tree that is kept leads to its root; and
the rows of the day, read from the journal and from ClickHouse, lead to the hash that the tree has of each org.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiokafka import TopicPartition

from pipeline import ist, topics
from pipeline.connection import KafkaConnection
from pipeline.journal import LedgerRow, RequestRow, Row, decode_rows, position_of, read_headers
from pipeline.kafka.bounded import read_to_end, records_at
from pipeline.kafka.fenced import read_compacted
from pipeline.notary import kept
from pipeline.notary.audit import DATABASE, SignedDayAudit
from pipeline.notary.chain import HashOfRate, OrgState, hash_of_rates, rate_line
from pipeline.notary.checkpoint import FIRST_PREVIOUS, is_handed_over, is_signed, line_hash
from pipeline.notary.day import ReadUpTo
from pipeline.notary.kept import DayIndex, DayTree, KeptCheckpoint
from pipeline.operations.audit import Difference, Rates

ROWS_A_QUERY = 10_000
Ask = Callable[[str, Mapping[str, object]], Awaitable[bytes]]
_decode_requests = msgspec.json.Decoder(RequestRow).decode_lines
_decode_entries = msgspec.json.Decoder(LedgerRow).decode_lines


class SignedDays:
    """The days that are signed and whose trees are kept."""

    def __init__(self, kafka: KafkaConnection, ask: Ask, rates: Rates, *, rows_from: str) -> None:
        """Prepare. Requests of IST dates before `rows_from` were dropped from the database."""
        self._kafka, self._ask, self._rows_from = kafka, ask, rows_from
        lines = {key: rate_line(rate) for key, rate in rates.items()}
        self._hash_of_rate: HashOfRate = hash_of_rates(lines)
        self._kept: dict[int, KeptCheckpoint] = {}
        self._indexes: dict[int, DayIndex] = {}

    async def read(self) -> list[int]:
        """Read which days there are, and return them, oldest first. Raises NewerFormatError and what Kafka raises."""
        records = await read_compacted(self._kafka, TopicPartition(topics.CHECKPOINTS_STATE, 0))
        self._kept, self._indexes = kept.checkpoints_of(records), kept.indexes_of(records)
        return sorted(self._kept.keys() & self._indexes.keys())

    async def compare(self, day: int) -> list[Difference]:
        """Return in what a day differs from what was signed. Raises KeyError where its tree, or the one before, is not kept."""
        of = ist.date_of(day).isoformat()
        differences = list(self._unsigned(day, of))
        signed = await self._states(day)
        tree = DayTree(self._kept[day].secret, signed)
        if tree.root.hex() != self._kept[day].checkpoint.root:
            found = f"{tree.root.hex()}, as the tree that is kept has it"
            return [*differences, Difference("signed root", of, self._kept[day].checkpoint.root, found)]
        audit = SignedDayAudit(await self._states(day - 1), self._hash_of_rate)
        for partition, end in self._indexes[day].read.items():
            begin = self._indexes[day - 1].read[partition] if day - 1 in self._indexes else ReadUpTo()
            async for rows in self._journal_rows(partition, begin, end.position):
                audit.take(rows, await self._database_rows(partition, rows))
        for place, org, due, there, ids in audit.differences(signed):
            rows_named = f", row {', '.join(map(str, ids))}" if ids else ""
            where = "rows in ClickHouse" if place == DATABASE else "journal"
            differences.append(
                Difference(f"signed {where}", f"{org} on {of}{rows_named}", _shown(due), _shown(there))
            )
        return differences

    def _unsigned(self, day: int, of: str) -> list[Difference]:
        """Return what is wrong with the checkpoint of a day itself."""
        checkpoint, last = self._kept[day].checkpoint, self._kept.get(day - 1)
        found = []
        if not is_signed(checkpoint):
            found.append(Difference("signed checkpoint", of, "its signature", "another one"))
        previous = FIRST_PREVIOUS if last is None else line_hash(last.checkpoint)
        if checkpoint.previous != previous:
            found.append(Difference("signed checkpoint before", of, previous, checkpoint.previous))
        handover = checkpoint.handover
        changed = last is not None and last.checkpoint.key != checkpoint.key
        if changed != (handover is not None) or (handover is not None and not is_handed_over(handover)):
            found.append(
                Difference("signed hand-over", of, "one by both keys, where the key changes", repr(handover))
            )
        return found

    async def _states(self, day: int) -> dict[str, OrgState]:
        """Return what the tree of a day has of each org; nothing before the first day."""
        if day < min(self._kept):
            return {}
        place = TopicPartition(topics.NOTARY_STATE, 0)
        chunks = await records_at(self._kafka, place, self._indexes[day].offsets)
        return {org.org: org.state for chunk in chunks for org in kept.decode_chunk(chunk).orgs}

    async def _journal_rows(self, partition: int, begin: ReadUpTo, below: int) -> AsyncIterator[list[Row]]:
        """Yield the rows of a partition from where a day begins up to before a position, some thousands at a time."""
        gathered: list[Row] = []
        if begin.position >= below:
            return
        where = TopicPartition(topics.JOURNAL, partition)
        async for records in read_to_end(self._kafka, where, start=begin.offset):
            for record in records:
                found = read_headers(record.headers, record.value)
                if found.first >= below:
                    break
                gathered += [
                    row for row in decode_rows(found) if begin.position <= position_of(row.id)[1] < below
                ]
                if len(gathered) >= ROWS_A_QUERY:
                    yield gathered
                    gathered = []
            else:
                continue
            break
        if gathered:
            yield gathered

    async def _database_rows(self, partition: int, rows: list[Row]) -> list[Row]:
        """Return the database's rows from the first to the last of these ids.

        A request that may have been dropped with its month, and is not there, counts as there.
        """
        between: dict[str, Any] = {"partition": partition, "low": rows[0].id, "high": rows[-1].id}
        found: list[Row] = [
            *_decode_requests(await self._ask("verify_requests", between)),
            *_decode_entries(await self._ask("verify_entries", between)),
        ]
        there = {row.id for row in found}
        found += [row for row in rows if row.id not in there and self._may_be_dropped(row)]
        return sorted(found, key=lambda row: row.id)

    def _may_be_dropped(self, row: Row) -> bool:
        return (
            isinstance(row, RequestRow) and ist.date_of(ist.day_of(row.at_ms)).isoformat() < self._rows_from
        )


def _shown(state: OrgState) -> str:
    return f"{state.rows} rows, {state.balance_nano} nano-rupees, {state.hash.hex()[:16]}..."
