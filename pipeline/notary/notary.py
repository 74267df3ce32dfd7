"""The notary: signs a checkpoint of each closed day, once, whoever runs and whatever is killed.

Owns: who is the notary, where it goes on, and the order in which a closed day is kept.
Called by: `notary/main.py` alone, or `api/server/main.py` beside the API. Next: `notary/journal_reader.py`, `notary/kept.py`.

Of all processes that could, the consumer group of `metering.state.checkpoints` makes one the notary, and its fenced producer
keeps out one that was and does not know yet that it is no more. It begins after the newest day that is kept. The chunks of a
day's tree are written first, then its checkpoint and index in one transaction: killed in between, the next notary makes the
same chunks again. What is signed depends on the journal and the key alone, so it would be the same bytes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence

from aiokafka import ConsumerRecord, TopicPartition

from pipeline import ist, topics
from pipeline.crashpoints import reach
from pipeline.identity import DeploymentIdentity
from pipeline.kafka.attempts import error_of
from pipeline.kafka.bounded import ends_of, read_until, records_at
from pipeline.kafka.fenced import FencedLog
from pipeline.kafka.partitions import partition_count
from pipeline.kafka.reader import GroupReader
from pipeline.notary import kept
from pipeline.notary.chain import OrgState
from pipeline.notary.checkpoint import NotaryKeys
from pipeline.notary.day import NotaryError, OpenDay, ReadUpTo, first_day
from pipeline.notary.journal_reader import JournalReader
from pipeline.notary.kept import DayIndex, DayTree, KeptCheckpoint, closed_day
from pipeline.settings import CommonSettings
from pipeline.steps import Output, TopicPlace
from pipeline.telemetry import NOTARY_SIGNED_THROUGH

log = logging.getLogger(__name__)

ROUND_EVERY_S = 30.0
"""How often the journal is read on. It need not be often: nobody waits for a hash before the day is over."""
FETCH_BYTES = 1024 * 1024
CHUNKS_A_TRANSACTION = 200
DAYS, TREES = TopicPlace(topics.CHECKPOINTS_STATE, 0), TopicPlace(topics.NOTARY_STATE, 0)


class Notary:
    """Signs the days that are closed, while the group makes this process the notary."""

    def __init__(
        self, settings: CommonSettings, keys: NotaryKeys, *, round_every_s: float = ROUND_EVERY_S
    ) -> None:
        """Prepare; nothing is connected before `run`."""
        self._settings, self._keys, self._round_every_s = settings, keys, round_every_s
        self._office: tuple[NotaryOffice, asyncio.Task[None]] | None = None
        self._reader = GroupReader(
            settings.kafka,
            f"{settings.deployment}-notary",
            [topics.CHECKPOINTS_STATE],
            self,
            fetch_bytes=FETCH_BYTES,
            instance=settings.instance,
            interruptible=True,
        )
        self._reader.watch_as("notary")

    async def run(self) -> None:
        """Read and sign until cancelled. Raises what must end the notary."""
        await self._reader.run()

    async def open(self, partition: int) -> Mapping[str, int]:
        """Become the notary; see `kafka/reader.py`."""
        office = NotaryOffice(self._settings, self._keys)
        try:
            await office.open()
            end = (await ends_of(self._settings.kafka, [TopicPartition(*DAYS)]))[TopicPartition(*DAYS)]
        except BaseException:
            await office.close()
            raise
        task = asyncio.create_task(office.run(self._round_every_s))
        task.add_done_callback(self._ended)
        self._office = office, task
        return dict.fromkeys([topics.CHECKPOINTS_STATE] if partition == DAYS.partition else [], end)

    async def process(self, _topic: str, _partition: int, _records: Sequence[ConsumerRecord]) -> None:
        """Pass over what was written here: it is known."""

    async def close(self, _partition: int) -> None:
        """Stop being the notary, at once."""
        if self._office is None:
            return
        (office, task), self._office = self._office, None
        task.cancel()
        await asyncio.wait([task], timeout=30)
        await office.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if (error := error_of(task)) is not None:
            self._reader.fail(error)

    @property
    def problem(self) -> str | None:
        """What keeps the journal from being read, None where nothing does."""
        return self._reader.problem


class NotaryOffice:
    """What the notary knows and does while nobody else is it."""

    def __init__(self, settings: CommonSettings, keys: NotaryKeys) -> None:
        """Prepare; nothing is connected before `open`."""
        self._settings, self._keys = settings, keys
        self._kafka = settings.kafka
        self._log = FencedLog(settings.kafka, f"{settings.deployment}-notary", role="notary")
        self._checkpoints: dict[int, KeptCheckpoint] = {}
        self._day: OpenDay | None = None
        self._journal: JournalReader | None = None

    async def open(self) -> None:
        """Fence the notary before, and find out what is signed and where to go on. Raises NotaryError and what Kafka raises."""
        await self._log.start()
        self._journal = JournalReader(self._kafka, await partition_count(self._kafka))
        records = await self._log.restore(*DAYS)
        self._checkpoints = kept.checkpoints_of(records)
        indexes = kept.indexes_of(records)
        if indexes:
            newest = max(indexes)
            self._day = await self._going_on(newest, indexes[newest])

    async def run(self, round_every_s: float) -> None:
        """Sign each day once it is closed, until cancelled. Raises NotaryError, NotaryKeyError and what Kafka raises."""
        while True:
            if not await self.turn():
                await asyncio.sleep(round_every_s)

    async def turn(self) -> bool:
        """Read the journal on, and sign the day if it is closed; whether it was."""
        assert self._journal is not None, "to be called after open"
        day = self._day = self._day or await self._first_day(self._journal)
        if day is None:
            return False
        await self._journal.take(day)
        is_over = time.time_ns() // 1_000_000 >= ist.day_end_ms(day.day)
        if not day.is_closed(await self._journal.posted() if is_over else {}):
            return False
        await self._keep(day)
        self._day = day.next()
        return True

    async def close(self) -> None:
        """Disconnect."""
        await self._log.close()

    async def _going_on(self, day: int, index: DayIndex) -> OpenDay:
        """Return the day after one that is kept. Raises NotaryError where its tree is not the one that was signed."""
        chunks = await records_at(self._kafka, TopicPartition(*TREES), index.offsets)
        states: dict[str, OrgState] = {
            org.org: org.state for chunk in chunks for org in kept.decode_chunk(chunk).orgs
        }
        signed = self._checkpoints[day]
        tree = await asyncio.to_thread(DayTree, signed.secret, states)
        if tree.root.hex() != signed.checkpoint.root:
            raise NotaryError(
                f"what is kept of {signed.checkpoint.day} does not lead to the root that was signed"
            )
        self._note_signed(day)
        return OpenDay(day + 1, dict(index.read), states)

    async def _first_day(self, journal: JournalReader) -> OpenDay | None:
        """Return the day of the first row there is; None before that is known."""
        firsts = {partition: await journal.first(partition) for partition in journal.partitions}
        rows = {partition: None if first is None else first[0] for partition, first in firsts.items()}
        day = first_day(rows, await journal.posted() if None in rows.values() else {})
        return None if day is None else OpenDay(day, dict.fromkeys(journal.partitions, ReadUpTo()))

    async def _keep(self, day: OpenDay) -> None:
        """Keep a closed day: the chunks of its tree, then its checkpoint and where the chunks are."""
        last = self._checkpoints.get(day.day - 1)
        checkpoint, tree = await asyncio.to_thread(
            closed_day,
            *(self._keys, await self._deployment(), day),
            *(self._checkpoints.get(day.day), None if last is None else last.checkpoint),
        )
        index = tree.index(await self._written(day.day, tree), day.read)
        reach("notary.written")
        outputs = [
            Output(kept.checkpoint_key(day.day), kept.encode(checkpoint)),
            Output(kept.index_key(day.day), kept.encode(index)),
        ]
        await self._log.commit({DAYS: outputs})
        reach("notary.signed")
        self._checkpoints[day.day] = checkpoint
        self._note_signed(day.day)
        log.info(
            "signed %s: %d orgs, root %s",
            checkpoint.checkpoint.day,
            len(day.states),
            checkpoint.checkpoint.root,
        )

    async def _written(self, day: int, tree: DayTree) -> list[int]:
        """Write the chunks of a tree and return their offsets, as they are read back. Raises NotaryError where one is not there."""
        place = TopicPartition(*TREES)
        start = (await ends_of(self._kafka, [place]))[place]
        outputs = [
            Output(kept.chunk_key(day, number), kept.encode(kept.DayChunk(chunk)))
            for number, chunk in enumerate(tree.chunks)
        ]
        for begin in range(0, len(outputs), CHUNKS_A_TRANSACTION):
            await self._log.commit({TREES: outputs[begin : begin + CHUNKS_A_TRANSACTION]})
        offsets: dict[bytes, int] = {}
        keys = [kept.chunk_key(day, number) for number in range(len(outputs))]
        async for records in read_until(self._kafka, place, lambda: offsets.keys() >= set(keys), start=start):
            offsets.update((record.key, record.offset) for record in records)
        if lacking := set(keys) - offsets.keys():
            raise NotaryError(
                f"{len(lacking)} chunks of {ist.date_of(day)} were committed and cannot be read"
            )
        return [offsets[key] for key in keys]

    async def _deployment(self) -> str:
        """Return whose checkpoints these are: what the checkpoints before say, else the journal, else the settings."""
        if self._checkpoints:
            return next(iter(self._checkpoints.values())).checkpoint.deployment
        assert self._journal is not None
        for partition in self._journal.partitions:
            first = await self._journal.first(partition)
            if first is not None and first[1] is not None:
                return str(first[1])
        return str(DeploymentIdentity(self._settings.deployment))

    def _note_signed(self, day: int) -> None:
        NOTARY_SIGNED_THROUGH.set(ist.day_end_ms(day) / 1000)
