"""Open the product that everything is done to: broker, ClickHouse, workers, sink, server with mailer, Razorpay and a mail server.

All of them are processes. Called by: tests/world and tests/runbooks, which give it a catalog of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.local.broker import Broker
from tests.support.clickhouse.process import ClickHouse
from tests.support.product.apart import Apart
from tests.support.product.razorpay import PARTITIONS, shop
from tests.support.product.world import World


@contextmanager
def opened_world(home: Path, *, workers: int = 1, **settings: str) -> Iterator[World]:
    """Run it in a directory for as long as the block runs; `settings` are environment variables beside its own."""
    inbox = subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline.standin.inbox"),
            *("--port", "0", "--http-port", "0", "--dir", str(home / "mails")),
        ],
        stdout=subprocess.PIPE,
    )
    clickhouse = ClickHouse(home / "clickhouse", seed=1)

    def apart(broker: Broker, directory: Path) -> Apart:
        made = Apart(broker, directory, clickhouse=clickhouse)
        for _ in range(workers - 1):
            made.add_worker()
        return made

    try:
        assert inbox.stdout is not None
        smtp_url = json.loads(inbox.stdout.readline())["smtp_url"]
        clickhouse.start()
        given = {
            "METERING_SMTP_URL": smtp_url,
            "METERING_RECONCILE_EVERY_S": "2",
            "METERING_PARTITIONS": str(PARTITIONS),
            **settings,
        }
        with shop(apart, **given) as opened:
            assert isinstance(opened.product, Apart)
            yield World(opened, opened.product, home / "mails")
    finally:
        clickhouse.kill()
        inbox.kill()
        inbox.wait()
