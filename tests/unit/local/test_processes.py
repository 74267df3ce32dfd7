"""Children end when asked, by force when they do not, and with their parent whatever ended it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.local import processes
from pipeline.local.errors import LocalError

_SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")
_DEAF = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
)
# A parent that starts a child, tells its id, and then waits to be killed.
_PARENT = """
import sys, time
from pipeline.local import processes
child = processes.start("child", [sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def _until_gone(pid: int, seconds_max: float = 10) -> bool:
    until = time.monotonic() + seconds_max
    while time.monotonic() < until:
        if not _lives(pid):
            return True
        time.sleep(0.02)
    return False


def _lives(pid: int) -> bool:
    """Return whether a process runs; one that ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_child_ends_when_asked() -> None:
    child = processes.start("sleeper", _SLEEPER)
    assert child.exit_code is None
    await child.stop(5)
    assert child.exit_code == -signal.SIGTERM


async def test_a_deaf_child_is_ended_by_force(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        child = processes.start("deaf", _DEAF, output=output)
    while b"deaf" not in log.read_bytes():
        await asyncio.sleep(0.02)
    await child.stop(0.2)
    assert child.exit_code == -signal.SIGKILL


async def test_a_child_has_a_session_of_its_own() -> None:
    child = processes.start("sleeper", _SLEEPER)
    assert os.getsid(child.pid) == child.pid
    await child.stop(5)


def test_a_child_dies_with_a_killed_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert _lives(child)
    parent.kill()
    parent.wait()
    assert _until_gone(child)
    parent.stdout.close()


async def test_a_program_that_is_not_there_is_a_clear_error() -> None:
    with pytest.raises(LocalError, match="cannot start ghost"):
        processes.start("ghost", ["/nowhere/ghost"])


async def test_children_are_started_from_the_main_thread_only() -> None:
    with pytest.raises(RuntimeError, match="main thread"):
        await asyncio.to_thread(processes.start, "sleeper", _SLEEPER)
