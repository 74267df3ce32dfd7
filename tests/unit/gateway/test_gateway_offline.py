"""A gateway whose Kafka is away: it stores, pushes back clearly, and goes on admitting."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.accounts.verdicts import Verdict
from pipeline.gateway import Gateway, GatewayClosed, InvalidEvent, SpoolBroken, SpoolFull, SpoolLocked
from pipeline.gateway.sending.entry import SpoolEntry
from pipeline.gateway.sending.spool import Spool
from pipeline.money import NANO_PER_RUPEE
from tests.support.builders import DROP, event

NOWHERE = "kafka://127.0.0.1:1"


def offline(spool_dir: Path, **settings: Any) -> Gateway:
    given = {"unread_limit_s": 0, "ready_limit_s": 0.01, "drain_limit_s": 0.01, **settings}
    return Gateway(kafka_url=NOWHERE, node="mum-1", spool_dir=spool_dir, **given)


def request(**changes: Any) -> dict[str, Any]:
    return event(**{"id": DROP, "source": DROP, **changes})


def stored(spool_dir: Path) -> list[SpoolEntry]:
    entries: list[SpoolEntry] = []
    Spool(
        spool_dir,
        segment_bytes=1000,
        sync=False,
        now_ns=0,
        found=lambda entry, waiting: entries.append(entry) if waiting else None,
    ).close()
    return entries


@pytest.mark.parametrize("durability", ["fsync", "process"])
async def test_what_was_published_is_on_the_disk_in_order(tmp_path: Path, durability: str) -> None:
    async with offline(tmp_path, durability=durability) as gateway:
        ids = await asyncio.gather(*(gateway.publish(request(subject=f"org_{n}")) for n in range(50)))
        status = gateway.status()
        source = gateway.source
    assert status.waiting_events == 50
    assert status.waiting_bytes == sum(p.stat().st_size - 8 for p in tmp_path.glob("*.spool"))
    events = [json.loads(entry.event) for entry in stored(tmp_path)]
    assert [e["id"] for e in events] == ids
    assert [e["subject"] for e in events] == [f"org_{n}" for n in range(50)]
    assert {e["source"] for e in events} == {source}
    sequences = [e["sequence"] for e in events]
    assert sequences == sorted(sequences) and {len(s) for s in sequences} == {20}


async def test_the_same_given_id_is_stored_once_over_restarts_and_at_the_same_time(tmp_path: Path) -> None:
    async with offline(tmp_path) as gateway:
        assert await asyncio.gather(*(gateway.publish(request(id="mine")) for _ in range(3))) == ["mine"] * 3
    async with offline(tmp_path) as gateway:
        assert await gateway.publish(request(id="mine")) == "mine"
        assert await gateway.publish(request(id="other")) == "other"
    assert [entry.given_id for entry in stored(tmp_path)] == ["mine", "other"]


async def test_a_publisher_that_goes_away_takes_no_other_with_it(tmp_path: Path) -> None:
    async with offline(tmp_path) as gateway:
        first = asyncio.create_task(gateway.publish(request(id="mine")))
        second = asyncio.create_task(gateway.publish(request(id="mine")))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == "mine"
    assert len(stored(tmp_path)) == 1


async def test_a_full_spool_pushes_back_and_admission_goes_on(tmp_path: Path) -> None:
    async with offline(tmp_path, spool_bytes_max=2000) as gateway:
        with pytest.raises(SpoolFull) as caught:
            await asyncio.gather(*(gateway.publish(request()) for _ in range(10)))
        assert caught.value.stored is False
        assert gateway.status().waiting_bytes <= 2000
        assert any("bytes that Kafka has not taken" in problem for problem in gateway.status().problems)
        assert gateway.admit("org_1", "key_1") is None
        kept = gateway.status().waiting_events
        with pytest.raises(SpoolFull):
            await gateway.publish(request())
    assert len(stored(tmp_path)) == kept > 0


async def test_a_broken_disk_pushes_back_and_mends(tmp_path: Path) -> None:
    home = tmp_path / "spool"
    async with offline(home, spool_bytes_max=100_000) as gateway:
        gateway._admission.take_verdict(Verdict("org_1", 10 * NANO_PER_RUPEE, ()))
        assert gateway.admit("org_1", "key_1", max_cost_inr="4") is None
        home.rename(tmp_path / "away")
        with pytest.raises(SpoolBroken, match="could not be written") as caught:
            await gateway.publish(request())
        assert caught.value.stored is False and caught.value.event_id is not None
        status = gateway.status()
        assert (status.waiting_events, status.waiting_bytes, status.reservations_open) == (0, 0, 1)
        assert gateway.admit("org_1", "key_1") is None
        (tmp_path / "away").rename(home)
        again = await gateway.publish(request(id=caught.value.event_id))
        assert again == caught.value.event_id
        assert not any("written" in problem for problem in gateway.status().problems)
        assert gateway.status().reservations_open == 0
    assert [entry.reserved_nano for entry in stored(home)] == [4 * NANO_PER_RUPEE]


async def test_a_reservation_of_a_waiting_event_is_held_after_a_restart(tmp_path: Path) -> None:
    async with offline(tmp_path) as gateway:
        gateway._admission.take_verdict(Verdict("org_1", 10 * NANO_PER_RUPEE, ()))
        assert gateway.admit("org_1", "key_1", max_cost_inr="4", request_id="r1") is None
        await gateway.publish(request(), request_id="r1")
    async with offline(tmp_path) as gateway:
        gateway._admission.take_verdict(Verdict("org_1", 10 * NANO_PER_RUPEE, ()))
        assert gateway.admit("org_1", "key_1", max_cost_inr="6.1") is not None
        assert gateway.admit("org_1", "key_1", max_cost_inr="6") is None


async def test_a_failed_request_gives_its_reservation_back(tmp_path: Path) -> None:
    async with offline(tmp_path) as gateway:
        gateway._admission.take_verdict(Verdict("org_1", 10 * NANO_PER_RUPEE, ()))
        assert gateway.admit("org_1", "key_1", max_cost_inr="10") is None
        await gateway.publish(request(data__status=502, data__usage=None))
        assert gateway.admit("org_1", "key_1", max_cost_inr="10") is None
        assert gateway.release("org_1", "key_1")


async def test_a_second_process_on_the_spool_is_refused(tmp_path: Path) -> None:
    async with offline(tmp_path):
        with pytest.raises(SpoolLocked):
            async with offline(tmp_path):
                pass


async def test_an_invalid_event_stores_nothing(tmp_path: Path) -> None:
    async with offline(tmp_path) as gateway:
        with pytest.raises(InvalidEvent, match=r"data\.model: is missing"):
            await gateway.publish(request(data__model=DROP))
        assert gateway.status().waiting_events == 0


async def test_before_and_after_it_runs_nothing_is_taken(tmp_path: Path) -> None:
    gateway = offline(tmp_path)
    with pytest.raises(GatewayClosed):
        await gateway.publish(request())
    async with gateway:
        pass
    with pytest.raises(GatewayClosed):
        await gateway.publish(request())


@pytest.mark.parametrize(
    "settings",
    [
        {"kafka_url": "localhost:9092"},
        {"node": "a/b"},
        {"durability": "maybe"},
        {"when_stale": "ajar"},
    ],
)
def test_a_setting_that_cannot_be_is_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    given = {"kafka_url": NOWHERE, "node": "n", "spool_dir": tmp_path, **settings}
    with pytest.raises(ValueError, match=next(iter(settings))):
        Gateway(**given)
