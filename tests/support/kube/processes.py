"""The long-running programs of a node: started with a log each, watched, ended in reverse order.

Called by: tests/support/kube/control_plane.py, tests/support/kube/node.py.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.stack.commands import tried

STOP_LIMIT_S = 20.0
LAST_LINES = 15


@dataclass
class Processes:
    """What runs. `logs` is the directory of their logs."""

    environment: Mapping[str, str]
    logs: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *words: str) -> None:
        """Start a program."""
        with (self.logs / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                words, env=dict(self.environment), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def until(self, command: Sequence[str], what: str, limit_s: float) -> None:
        """Return once a command ends with code 0. Raises AssertionError where it does not, or a program has ended."""
        self.holds(lambda: tried(command, self.environment).returncode == 0, what, limit_s)

    def holds(self, true: Callable[[], bool], what: str, limit_s: float) -> None:
        """Return once something is true. Raises AssertionError where it is not within the limit, or a program has ended."""
        until_s = time.monotonic() + limit_s
        while not true():
            for name, process in self.running.items():
                assert process.poll() is None, f"{name} ended with {process.returncode}\n{self.last(name)}"
            assert time.monotonic() < until_s, f"not within {limit_s:g} s: {what}"
            time.sleep(0.5)

    def last(self, name: str) -> str:
        """Return the last lines that a program has said."""
        said = (self.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(said.splitlines()[-LAST_LINES:])

    def stop(self) -> None:
        """End all of them, the last first."""
        for process in reversed(self.running.values()):
            process.terminate()
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()
