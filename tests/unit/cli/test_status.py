"""`metering status` while what it asks is away, or hangs: an answer all the same, in bounded time, and exit code 1."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import ports

LIMIT_S = 75.0
"""What it may take on a busy machine, its start and end included: each question is given up after 5 s."""


def _status(home: Path, *arguments: str, **settings: str) -> tuple[int, Any]:
    began = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-m", "pipeline", "status", "--data-dir", str(home), *arguments],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    assert time.monotonic() - began < LIMIT_S, ran.stderr
    return ran.returncode, json.loads(ran.stdout) if ran.stdout else ran.stderr


def test_where_nothing_runs_and_nothing_is_set_it_says_so(tmp_path: Path) -> None:
    code, said = _status(tmp_path)
    assert code == 1
    assert "METERING_KAFKA_URL is not set" in said


@pytest.mark.parametrize("hangs", [False, True])
def test_what_is_away_is_told_and_why(tmp_path: Path, hangs: bool) -> None:
    """A port that nobody listens on, and one on which nobody ever answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        port = silent.getsockname()[1] if hangs else ports.free()
        code, found = _status(
            tmp_path,
            *("--json", "--role", f"http://127.0.0.1:{port}"),
            METERING_KAFKA_URL=f"kafka://127.0.0.1:{port}",
            METERING_CLICKHOUSE_URL=f"http://127.0.0.1:{port}/metering",
        )
    assert (code, found["is_well"]) == (1, False)
    conditions = {name: part["condition"] for name, part in found["parts"].items()}
    assert conditions == {
        **dict.fromkeys(("kafka", "clickhouse", f"127.0.0.1:{port}"), "wrong"),
        **dict.fromkeys(("worker", "sink", "mailer", "webhooks", "notary", "server", "books"), "unknown"),
    }
    assert found["unknown"].keys() == {
        "lag",
        "events",
        "debited_today",
        "dead_letters",
        "open_payments",
        "verify",
    }
    parts = found["parts"]
    refused = "does not answer in time" if hangs else "does not answer: Connection refused"
    assert parts["clickhouse"]["detail"] == refused
    if not hangs:
        assert f"127.0.0.1:{port}" in parts["kafka"]["detail"]
        assert "METERING_KAFKA_URL" in parts["kafka"]["detail"]
