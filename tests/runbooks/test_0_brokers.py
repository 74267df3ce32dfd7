"""A broker whose disk fills, and brokers that die, one and then two of three; every event is charged once in the end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.prometheus import program
from tests.support.runbooks.brokers import BrokersWalk, brokers_walk


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokersWalk]:
    """Three brokers, the third on a disk of its own."""
    prometheus, exporter = program("prometheus"), program("prometheus-node-exporter")
    if prometheus is None or exporter is None:
        pytest.skip("prometheus or prometheus-node-exporter is not installed (Debian's packages have them)")
    with brokers_walk(tmp_path_factory.mktemp("brokers"), prometheus, exporter) as walk:
        yield walk


def test_a_brokers_disk_fills(brokers: BrokersWalk) -> None:
    alert = "MeteringKafkaDisk"
    brokers.quiet(alert)
    elsewhere = brokers.disk.where / "of-somebody-else"
    room = os.statvfs(brokers.disk.where)
    left = room.f_blocks // 10
    with elsewhere.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, (room.f_bavail - left) * room.f_frsize)
    brokers.fires("MeteringKafkaDisk")
    assert "metering.journal" in brokers.look(alert)
    # Our topics are small: what takes the room is none of ours.
    elsewhere.unlink()
    brokers.over(alert, limit_s=400)


def test_one_broker_of_three_is_away_and_then_two(brokers: BrokersWalk) -> None:
    missing, unwritable = "MeteringKafkaReplicasMissing", "MeteringKafkaUnwritable"
    brokers.quiet(missing, unwritable)
    brokers.kill(3)
    brokers.fires("MeteringKafkaReplicasMissing")
    assert unwritable not in brokers.firing()
    assert "Isr: 1,2" in brokers.look(missing) or "Isr: 2,1" in brokers.look(missing)
    brokers.kill(2)
    brokers.fires("MeteringKafkaUnwritable")
    described = brokers.look(unwritable)
    assert "metering.state" in described and "Isr: 1" in described, described
    brokers.bring_back()
    brokers.over(missing, unwritable)
    brokers.books_agree()
