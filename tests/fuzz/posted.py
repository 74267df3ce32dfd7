"""Spoilt records through the whole product: a real broker, worker and sink, and all that a producer may do to a record.

`fuzz_topics` sends a seed's records to what the worker reads, waits until all of them went through, and says what went
wrong: a process that ended or hangs, an event that is nowhere, or books that differ afterwards.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import httpx2
from aiokafka import AIOKafkaProducer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from pipeline.kafka.bounded import ends_of, read_to_end
from pipeline.partitioning import partition_of
from pipeline.topics import BILLING, DEAD_LETTERS, MOVED, REQUESTS
from tests.fuzz.outcome import Fuzzed
from tests.fuzz.spoilt import spoilt_command, spoilt_events
from tests.support.builders import COMMAND_KEYS, event, packed, time_text
from tests.support.product.deployment import CATALOG
from tests.support.product.razorpay import PARTITIONS, Shop

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
AT_ONCE = 2_000
"""Records that are on their way at once."""
LARGEST = 4_000_000
"""Of a value; the topics take 4 MiB with all that is around it."""
LIMIT_S, RECORDS_A_S = 60.0, 500
"""All has to go through within so long, and a second more for so many records."""
COUNTED_S = 10.0
METRICS = {
    "metering_events_total": "events",
    "metering_requests_posted_total": "requests posted",
    "metering_duplicates_total": "duplicates",
    "metering_events_moved_total": "moved",
}


@dataclass(frozen=True)
class Sent:
    """A record on its way."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def fuzz_topics(shop: Shop, records: int, seed: int) -> Fuzzed:
    """Send so many records of a seed; what came of them, and what went wrong."""
    fuzzed = Fuzzed()
    applied = shop.metering("catalog", "apply", str(CATALOG))
    assert applied.returncode == 0, applied.stderr
    before, counts = shop.product.process_ids(), _counts(shop)
    letters_from = asyncio.run(_ends(shop))
    asyncio.run(_send(shop, records, seed, fuzzed))
    _wait_for_all(shop, seed, LIMIT_S + records / RECORDS_A_S, fuzzed)
    after = shop.product.process_ids()
    if after != before:
        fuzzed.wrong.append(f"a process ended: {before} before, {after} after\n{shop.product.all_words()}")
        return fuzzed
    letters = asyncio.run(_letters(shop, letters_from))
    fuzzed.kinds += letters
    of_events = sum(number for reason, number in letters.items() if not reason.endswith(BILLING))
    deadline, nowhere = time.monotonic() + COUNTED_S, 1
    while nowhere and time.monotonic() < deadline:
        time.sleep(0.2)
        found = _counts(shop) - counts
        nowhere = (
            found["events"] - sum(found[name] for name in METRICS.values() if name != "events") - of_events
        )
    fuzzed.kinds += found
    if nowhere:
        fuzzed.wrong.append(f"{nowhere} events are nowhere: {dict(found)}, {of_events} dead letters")
    report = asyncio.run(shop.product.verify())
    fuzzed.wrong += [str(difference) for difference in report.differences]
    return fuzzed


def _made(rng: random.Random, number: int, now_ms: int) -> Sent:
    """Return the next record of a seed."""
    topic = rng.choice((REQUESTS,) * 14 + (MOVED, BILLING))
    partition = rng.randrange(PARTITIONS)
    key = rng.choice((None, b"", b"org_1", rng.randbytes(5)))
    headers = (
        [(rng.choice(("", "mac", "reason", "\0", "x" * 300)), rng.randbytes(9))] if rng.random() < 0.1 else []
    )
    if topic == BILLING:
        value = spoilt_command(rng)
        # Who holds the key may make the worker wait, with a barrier; nobody else may do anything.
        if value is not None and b"barrier" not in value and rng.random() < 0.8:
            headers += COMMAND_KEYS.headers(value, partition, now_ms)
        return Sent(topic, partition, key, value, headers)
    value = spoilt_events(rng, number, time_text(now_ms))
    if rng.random() < 0.0005:
        value = _large(rng)
    return Sent(topic, partition, key, value, headers)


def _large(rng: random.Random) -> bytes:
    """Return a value that is about as large as one may be: noise, text that is no event, or events without an end."""
    what = rng.randrange(4)
    if what == 0:
        return rng.randbytes(LARGEST)
    if what == 1:
        return packed({**event(), "id": rng.randbytes(LARGEST // 2).hex()[: LARGEST - 1_000]})
    if what == 2:
        return b"[" + b"{}," * 5_000 + b"{}]"
    return packed(*(event(f"many-{rng.random()}", source="gateway/many") for _ in range(2_000)))


async def _send(shop: Shop, records: int, seed: int, fuzzed: Fuzzed) -> None:
    """Send the records of a seed, each by one of several producers, and after them what shows that all went through."""
    rng, now_ms = random.Random(seed), time.time_ns() // 1_000_000
    made = (_made(rng, number, now_ms) for number in range(records))
    async with AsyncExitStack() as stack:
        producers = [
            await stack.enter_async_context(
                AIOKafkaProducer(
                    bootstrap_servers=shop.product.servers,
                    compression_type=None if codec == "none" else codec,
                    enable_idempotence=True,
                    max_request_size=2**30,  # before it is compressed; the topics have bounds of their own
                    transactional_id=f"fuzz-{codec}" if codec == "zstd" else None,
                )
            )
            for codec in CODECS
        ]
        await _send_unfit(producers[-1], rng)
        while lump := list(itertools.islice(made, AT_ONCE)):
            fuzzed.kinds.update(f"sent to {record.topic}" for record in lump)
            is_kept = rng.random() < 0.8
            await producers[-1].begin_transaction()
            sent = [await _on_its_way(rng.choice(producers), record) for record in lump]
            await asyncio.gather(*sent)
            if is_kept:
                await producers[-1].commit_transaction()
            else:
                await producers[-1].abort_transaction()
        for org, partition in _last_orgs(seed):
            for topic in (REQUESTS, MOVED):
                whole = event(f"last-{topic}", subject=org, time=time_text(now_ms))
                await producers[0].send_and_wait(topic, packed(whole), org.encode(), partition)


async def _send_unfit(zstd: AIOKafkaProducer, rng: random.Random) -> None:
    """Send what fits in when it is compressed, while its dead letter fits out nowhere; it has to be cut."""
    await zstd.begin_transaction()
    for partition in range(PARTITIONS):
        await zstd.send_and_wait(REQUESTS, rng.randbytes(1_500_000) * 12, None, partition)
    await zstd.commit_transaction()


async def _on_its_way(producer: AIOKafkaProducer, record: Sent) -> asyncio.Future[object]:
    sent: asyncio.Future[object] = await producer.send(
        record.topic,
        record.value,
        # aiokafka sends no record that has neither.
        b"" if record.value is None else record.key,
        record.partition,
        headers=list(record.headers),
    )
    return sent


def _last_orgs(seed: int) -> Iterator[tuple[str, int]]:
    """Yield an org of each partition, which nothing else of the run is about."""
    for partition in range(PARTITIONS):
        names = (f"last-{seed}-{number}" for number in itertools.count())
        yield next((org, partition) for org in names if partition_of(org, PARTITIONS) == partition)


def _wait_for_all(shop: Shop, seed: int, limit_s: float, fuzzed: Fuzzed) -> None:
    """Wait until the last events are charged, commands are answered, and the database has the events."""

    def is_through(org: str) -> bool:
        status, totals = shop.call("GET", "/me/activity", org)
        if status != httpx2.codes.OK or totals["totals"]["requests"] < len((REQUESTS, MOVED)):
            return False
        # It is answered after the commands that were there before it.
        return shop.call("GET", "/me/billing", org)[0] == httpx2.codes.OK

    for org, partition in _last_orgs(seed):
        try:
            shop.until(partial(is_through, org), f"partition {partition} is done", limit_s)
        except AssertionError as hangs:
            fuzzed.wrong.append(str(hangs))


def _counts(shop: Shop) -> Counter[str]:
    """Return what the worker has counted, as of a second ago at most."""
    [worker] = shop.product.workers
    text = httpx2.get(f"{worker.status_url}/metrics", trust_env=False).text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return Counter({METRICS[s.name]: int(s.value) for s in samples if s.name in METRICS})


async def _ends(shop: Shop) -> dict[TopicPartition, int]:
    places = [TopicPartition(DEAD_LETTERS, partition) for partition in range(PARTITIONS)]
    return dict(await ends_of(shop.product.connection, places))


async def _letters(shop: Shop, begins: dict[TopicPartition, int]) -> Counter[str]:
    """Return how many dead letters there are from these offsets on, by reason and topic."""
    found: Counter[str] = Counter()
    for place, begin in begins.items():
        async for records in read_to_end(shop.product.connection, place, start=begin):
            for record in records:
                said = dict(record.headers)
                found[f"dead letters: {said['reason'].decode()}, {said['topic'].decode()}"] += 1
    return found
