"""A ClickHouse whose merges do not keep up, and one whose disk fills with old months."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import power
from tests.support.board.prometheus_server import running_prometheus
from tests.support.clickhouse.process import ClickHouse
from tests.support.product.processes import Role
from tests.support.prometheus import program
from tests.support.runbooks.clickhouse_exporter import exporting, figures
from tests.support.runbooks.hands import Hands
from tests.support.runbooks.hurried import write_hurried_rules
from tests.support.runbooks.paged import Paged

DISK_BYTES = 512 * 1024**2
MANY = 520
"""Parts of a row each, while nothing merges them."""
OLD_MONTH = "202601"


@dataclass(frozen=True)
class Database:
    """ClickHouse alone: the rows in it are made up."""

    clickhouse: ClickHouse
    servers: str = ""
    http_url: str = ""

    def roles(self) -> Sequence[Role]:
        """Return no process."""
        return ()


@dataclass(kw_only=True)
class DatabaseWalk(Paged):
    """Whoever walks through the runbooks of ClickHouse."""

    clickhouse: ClickHouse

    def insert(self, rows: int, *, at: str, name_bytes: int = 10) -> None:
        """Insert rows of one moment, whose ids of events are so long and cannot be compressed."""
        self.hands.sql(
            "INSERT INTO metering.events (id, org, at_ms, posted_ms, event_id, cost_nano) "
            f"SELECT rand64() % 1000000000 + 1, 'org_a', toUnixTimestamp('{at}') * 1000 AS at_ms, at_ms, "
            f"randomString({name_bytes}), 5 FROM numbers({rows})"
        )

    def share_left(self) -> float:
        """Return which part of the disk is free."""
        found = figures(self.clickhouse)
        return found["FilesystemMainPathAvailableBytes"] / found["FilesystemMainPathTotalBytes"]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseWalk]:
    """ClickHouse with the product's tables on a small disk, and a Prometheus."""
    prometheus = program("prometheus")
    if prometheus is None:
        pytest.skip("prometheus is not installed (Debian's package prometheus has it)")
    home = tmp_path_factory.mktemp("clickhouse")
    with power.disk(home, DISK_BYTES) as disk:
        clickhouse = ClickHouse(disk.where / "clickhouse", seed=1)
        try:
            clickhouse.start()
            yield from _watched(prometheus, home, clickhouse)
        finally:
            clickhouse.kill()


def _watched(prometheus: str, home: Path, clickhouse: ClickHouse) -> Iterator[DatabaseWalk]:
    environment = {**os.environ, "METERING_CLICKHOUSE_URL": clickhouse.url}
    subprocess.run([sys.executable, "-m", "pipeline", "migrate"], env=environment, check=True, timeout=120)
    rules = write_hurried_rules(home)
    with (
        exporting(clickhouse) as at,
        running_prometheus(prometheus, home, {"clickhouse": [at]}, rules=rules, interval="5s") as watching,
    ):
        hands = Hands(Database(clickhouse), environment, home)
        yield DatabaseWalk(prometheus=watching, hands=hands, clickhouse=clickhouse)


def test_merges_do_not_keep_up(database: DatabaseWalk) -> None:
    alert = "MeteringClickHouseParts"
    database.quiet(alert)
    database.hands.sql("SYSTEM STOP MERGES metering.events")
    for _ in range(MANY):
        database.insert(1, at="2026-02-10 12:00:00")
    database.fires("MeteringClickHouseParts")
    assert "events" in database.look(alert)
    # Nobody inserts tiny blocks any more, and merges catch up.
    database.do(alert, "SYSTEM START MERGES")
    database.over(alert)
    assert database.clickhouse.ask("SELECT count() FROM metering.events") == [[MANY]]


def test_the_disk_fills_with_old_months(database: DatabaseWalk) -> None:
    alert = "MeteringClickHouseDisk"
    database.quiet(alert)
    # What merges leave behind would go away by itself after some minutes, and with it the fault.
    database.hands.sql("SYSTEM STOP MERGES metering.events")
    while database.share_left() > 0.12:
        database.insert(1_000, at="2026-01-10 12:00:00", name_bytes=10_000)
    sums = "SELECT sum(requests) FROM metering.usage_day WHERE toYYYYMM(day) = 202601"
    before = database.clickhouse.ask(sums)
    database.fires("MeteringClickHouseDisk")
    assert "events" in database.look(alert)
    database.do(alert, "ALTER TABLE metering.events DROP PARTITION", YYYYMM=OLD_MONTH)
    database.until(lambda: database.share_left() > 0.2, "there is room again")
    database.over(alert)
    assert database.clickhouse.ask(sums) == before != [[0]], "roll-ups stay"
