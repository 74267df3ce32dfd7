"""ClickHouse as a process of its own, for tests that take it away and have it misbehave.

Owns: starting, killing and freezing the front of tests/support/clickhouse/front.py, and asking it directly.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import msgspec

import tests
from tests.support import ports
from tests.support.clickhouse import misbehaviour
from tests.support.clickhouse.misbehaviour import NONE, Mixture

START_LIMIT_S = 60.0
DATABASE = "metering"


class ClickHouse:
    """The embedded engine behind ClickHouse's HTTP interface, in its own process and on one port for ever."""

    def __init__(self, home: Path, seed: int) -> None:
        """Prepare; faults are drawn from the seed. The engine starts in `home`, so it has the rights that files there give."""
        home.mkdir()
        self._home, self._seed = home, seed
        self.port = ports.free()
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def url(self) -> str:
        """What METERING_CLICKHOUSE_URL has to be."""
        return f"http://metering:metering@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> None:
        """Start it and wait until it answers. Raises AssertionError where it does not."""
        self.starts += 1
        with (self._home / "front.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.support.clickhouse.front",
                    str(self._home),
                    str(self.port),
                    f"{self._seed}/{self.starts}",
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self._home,
                env={**os.environ, "PYTHONPATH": str(Path(tests.__file__).parent.parent)},
            )
        deadline = time.monotonic() + START_LIMIT_S
        while not self._listens():
            assert self._process.poll() is None, self.words()
            assert time.monotonic() < deadline, f"ClickHouse does not start\n{self.words()}"
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as caller:
            return caller.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def kill_in_an_insert(self, chance: random.Random, limit_s: float = 5.0) -> bool:
        """End it when it has just noted that it has a block, which it is about to put into its place.

        Return whether there was an insert within the limit; it is ended in any case.
        """
        logs = list((self._home / "data").glob("store/*/*/deduplication_logs/*"))
        notes_left = chance.randint(1, 4)
        before = [log.stat().st_size for log in logs]
        deadline = time.monotonic() + limit_s
        while notes_left and time.monotonic() < deadline:
            now = [log.stat().st_size for log in logs]
            notes_left -= now != before
            before = now
        self.kill()
        return not notes_left

    def freeze(self) -> None:
        """Have it take connections and answer nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on where it was."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def misbehave(self, mixture: Mixture) -> None:
        """Put a mixture of faults in force."""
        misbehaviour.put_in_force(self._home, mixture)

    def behave(self) -> None:
        """Inject no more faults."""
        self.misbehave(NONE)

    def counts(self) -> dict[str, Counter[str]]:
        """Return how often each fault was injected so far, by kind of statement."""
        return misbehaviour.counts(self._home)

    def ask(self, sql: str) -> list[list[Any]]:
        """Return a SELECT's rows, past the product's own client."""
        answer = httpx2.post(
            f"http://127.0.0.1:{self.port}/",
            params={"database": DATABASE},
            content=f"{sql}\nFORMAT JSONCompactEachRow",
            trust_env=False,
            verify=False,
            timeout=60,
        )
        assert answer.status_code == httpx2.codes.OK, answer.text
        return [msgspec.json.decode(line) for line in answer.content.splitlines()]

    def words(self) -> str:
        """Return the last of what it said."""
        return (self._home / "front.log").read_text(errors="replace")[-3000:]
