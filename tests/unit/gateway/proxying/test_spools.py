"""Each process has a spool of its own, and takes over one whose process is gone. Kafka is away in these tests."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.gateway import Gateway, SpoolBroken
from pipeline.gateway.proxying import spools as spools_module
from pipeline.gateway.proxying.spools import Spools
from tests.support.builders import DROP, event


def made(place: Path) -> Gateway:
    return Gateway(
        kafka_url="kafka://127.0.0.1:1",
        node="mum-1",
        spool_dir=place,
        unread_limit_s=0,
        ready_limit_s=0.01,
        drain_limit_s=0.01,
    )


async def left(gateway: Gateway) -> None:
    await gateway.__aexit__(None, None, None)


async def test_processes_side_by_side_have_spools_of_their_own(tmp_path: Path) -> None:
    first, second = Spools(tmp_path, made), Spools(tmp_path, made)
    one, two = await first.enter_free(), await second.enter_free()
    assert sorted(place.name for place in tmp_path.iterdir()) == ["worker-0", "worker-1"]
    assert one.source != two.source
    await one.publish(event(id=DROP, source=DROP))
    await left(one)

    # Who comes in place of the first goes on with its spool.
    third = await Spools(tmp_path, made).enter_free()
    assert third.source == one.source
    assert third.status().waiting_events == 1
    await left(two)
    await left(third)


async def test_a_spool_that_is_damaged_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "worker-0").mkdir()
    (tmp_path / "worker-0" / "lock").mkdir()
    with pytest.raises(SpoolBroken):
        await Spools(tmp_path, made).enter_free()


async def test_a_spool_that_nobody_has_is_looked_after_until_it_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spools_module, "SEND_LIMIT_S", 0.05)
    opened: list[str] = []

    def noted(place: Path) -> Gateway:
        opened.append(place.name)
        return made(place)

    async def looks(spools: Spools, count: int) -> None:
        opened.clear()
        looking = asyncio.create_task(spools.look_after_others(every_s=0.01))
        while len(opened) < count:
            assert not looking.done()
            await asyncio.sleep(0.01)
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking

    other = await Spools(tmp_path, made).enter_free()
    empty = await Spools(tmp_path, made).enter_free()
    spools = Spools(tmp_path, noted)
    own = await spools.enter_free()
    await left(empty)
    # Another process has worker-0, and worker-1 is empty: it is opened once, however often is looked.
    await looks(spools, 20)
    assert opened.count("worker-1") == 1
    assert "worker-2" not in opened

    await other.publish(event(id=DROP, source=DROP))
    await left(other)
    await looks(spools, 3)
    assert opened == ["worker-0"] * 3, "its event could not be sent, so it is tried again and again"
    await left(own)
