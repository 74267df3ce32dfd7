"""The corpus as librdkafka sends it to the running product: charged and set aside as the index says.

Its partitioner: tests/integration/test_librdkafka.py.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition

from pipeline import topics
from pipeline.journal import RequestRow, decode_rows, read_headers
from pipeline.kafka.bounded import read_to_end
from tests.support.gateway.librdkafka import LIMIT_S, send
from tests.support.gateway.platform import Platform, eventually

CORPUS = Path(__file__).parents[2] / "schemas" / "corpus"
INDEX: dict[str, Any] = json.loads((CORPUS / "index.json").read_text(encoding="utf-8"))
PARTITIONS = 4
SOURCE = b'"gateway/mum-1"'
_TIME = re.compile(rb"(2026-\d\d-\d\d)([Tt ])(\d\d:\d\d:\d\d)")


def moved_to(value: bytes, now: datetime) -> bytes:
    """Return a file of the corpus as if it arrived now: its times are as far from now as they are from `received_at`."""
    by = now - datetime.fromisoformat(INDEX["received_at"])

    def moved(found: re.Match[bytes]) -> bytes:
        day, separator, clock = found.groups()
        try:
            at = datetime.fromisoformat(f"{day.decode()}T{clock.decode()}") + by
        except ValueError:
            return found[0]
        return at.date().isoformat().encode() + separator + at.time().isoformat("seconds").encode()

    return _TIME.sub(moved, value)


def test_the_corpus_is_charged_and_set_aside_as_the_index_says(platform: Platform) -> None:
    now = datetime.fromtimestamp(int(time.time()), UTC)
    files: list[dict[str, Any]] = INDEX["files"]
    values = []
    for nth, entry in enumerate(files):
        value = moved_to((CORPUS / entry["file"]).read_bytes(), now)
        # Each is alone on an empty system: a source of its own.
        values.append(value.replace(SOURCE, f'"corpus/{nth}"'.encode()))
    places = send(
        platform.product.servers,
        topics.REQUESTS,
        [("org_7f3a", value) for value in values],
        partitioner="murmur2_random",
    )
    charged: dict[int, list[RequestRow]] = {}
    letters: dict[int, list[str]] = {}

    def all_there() -> bool:
        charged.update(_charged(platform))
        letters.update(_letters(platform, places))
        return all(
            len(charged.get(nth, [])) >= entry["charged"]
            and len(letters.get(nth, [])) >= len(entry["dead_letters"])
            for nth, entry in enumerate(files)
        )

    eventually(all_there, LIMIT_S)
    for nth, entry in enumerate(files):
        rows = charged.get(nth, [])
        assert len(rows) == entry["charged"], entry
        assert letters.get(nth, []) == entry["dead_letters"], entry
        assert sum(row.irregular > 0 for row in rows) == entry.get("irregular", 0), entry
        assert sum(row.cost_nano for row in rows) == entry.get("cost_nano", 0), entry
    print(f"{len(files)} files: {Counter(reason for found in letters.values() for reason in found)}")


def _charged(platform: Platform) -> dict[int, list[RequestRow]]:
    """Return the rows that were posted of each file."""
    found: dict[int, list[RequestRow]] = {}
    for record in _read(platform, topics.JOURNAL):
        told = read_headers(record.headers, record.value)
        for row in decode_rows(told):
            if isinstance(row, RequestRow) and row.source.startswith("corpus/"):
                found.setdefault(int(row.source.removeprefix("corpus/")), []).append(row)
    return found


def _letters(platform: Platform, places: list[tuple[int, int]]) -> dict[int, list[str]]:
    """Return the reasons of each file's dead letters, in order."""
    found: dict[int, list[str]] = {}
    for letter in _read(platform, topics.DEAD_LETTERS):
        headers = {name: value.decode() for name, value in letter.headers}
        place = int(headers["partition"]), int(headers["offset"])
        if place in places:
            found.setdefault(places.index(place), []).append(headers["reason"])
    return found


def _read(platform: Platform, topic: str) -> list[Any]:
    """Return all committed records of a topic."""

    async def read() -> list[Any]:
        partitions = [
            [
                record
                async for records in read_to_end(platform.product.connection, TopicPartition(topic, number))
                for record in records
            ]
            for number in range(PARTITIONS)
        ]
        return [record for records in partitions for record in records]

    return platform.runner.run(read())
