"""The one product of this folder.

Its files run in the order of their names, and each begins with what the one before has left: that is the point.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.local.broker import Broker
from tests.support.clickhouse.process import ClickHouse
from tests.support.product.apart import Apart
from tests.support.product.razorpay import PARTITIONS, shop
from tests.support.product.world import World

CATALOG = """
rates:
  - {model: krutrim-2, provider: krutrim, effective_from: "2026-01-01T00:00:00+05:30",
     input_inr_per_mtok: "12.5", cached_input_inr_per_mtok: "3.125", output_inr_per_mtok: "50"}
  - {model: gift-1, provider: krutrim, effective_from: "2026-01-01T00:00:00+05:30",
     input_inr_per_mtok: "0", output_inr_per_mtok: "0"}
"""


@pytest.fixture(autouse=True)
def _settings_of_nobody() -> None:
    """The processes here get their settings from the shop."""


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Broker, ClickHouse, worker, sink, server with mailer, Razorpay and a mail server: all of them processes."""
    home = tmp_path_factory.mktemp("world")
    inbox = subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline.standin.inbox"),
            *("--port", "0", "--http-port", "0", "--dir", str(home / "mails")),
        ],
        stdout=subprocess.PIPE,
    )
    clickhouse = ClickHouse(home / "clickhouse", seed=1)

    def apart(broker: Broker, directory: Path) -> Apart:
        return Apart(broker, directory, clickhouse=clickhouse)

    try:
        assert inbox.stdout is not None
        smtp_url = json.loads(inbox.stdout.readline())["smtp_url"]
        clickhouse.start()
        given = {
            "METERING_SMTP_URL": smtp_url,
            "METERING_RECONCILE_EVERY_S": "2",
            "METERING_PARTITIONS": str(PARTITIONS),
        }
        with shop(apart, **given) as opened:
            assert isinstance(opened.product, Apart)
            world = World(opened, opened.product, home / "mails")
            (home / "catalog.yaml").write_text(CATALOG)
            assert world.metering("catalog", "apply", str(home / "catalog.yaml"))["published"] == 2
            yield world
    finally:
        clickhouse.kill()
        inbox.kill()
        inbox.wait()
