"""A rebuild that was ended half way, which leaves the sink waiting for its partitions."""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.support.product.razorpay import PARTITIONS
from tests.support.runbooks.walk import Walk


def test_a_rebuild_that_was_ended_keeps_the_sink_from_opening(walk: Walk) -> None:
    alert = "MeteringPartitionOpening"
    walk.quiet(alert)
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "rebuild", "clickhouse"],
        env={**walk.hands.environment, "METERING_CRASH_AT": f"rebuild.holding:{PARTITIONS}"},
        capture_output=True,
        timeout=150,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    walk.fires("MeteringPartitionOpening")
    waits = walk.look(alert, walk.product.sink)
    assert "`metering rebuild clickhouse` is under way; if it was ended, run it again" in waits, waits
    walk.do(alert, "metering rebuild clickhouse")
    walk.over(alert)
    assert walk.world.metering("verify")["differences"] == []
