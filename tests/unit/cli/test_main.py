"""What the program does before a command begins."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

STARTING = """
import os, signal
from pipeline.cli import main
own = os.getpid()
os.getpid = lambda: {pid}
main._heed_sigterm()
os.kill(own, signal.SIGTERM)
signal.pause()
"""


@pytest.mark.parametrize(("pid", "code"), [("1", 128 + signal.SIGTERM), ("own", -signal.SIGTERM)])
def test_a_process_that_is_told_to_stop_while_it_starts_ends(pid: str, code: int) -> None:
    """The first of a container too: without a handler of its own the signal would do nothing there."""
    done = subprocess.run([sys.executable, "-c", STARTING.format(pid=pid)], timeout=60, check=False)
    assert done.returncode == code
