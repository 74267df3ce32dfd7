"""Child processes that never outlive the process that started them.

Owns: how a child is started and stopped.
Called by: `local/broker.py` and `local/supervisor.py`.

The kernel kills a child as soon as the thread that started it is gone, whatever ended it (SIGKILL too). So
children are started from the main thread only. Each has a session of its own: Ctrl-C in the terminal
reaches the supervisor alone, which then stops its children in order.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from pipeline.local.errors import LocalError

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.05
_ORPHANED = 125
_STDERR = 2


@dataclass
class Process:
    """A running child. `name` is what messages call it."""

    name: str
    popen: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self.popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self.popen.poll()

    async def wait(self) -> int:
        """Wait until it has ended and return its exit code."""
        while (code := self.popen.poll()) is None:
            await asyncio.sleep(_POLL_SECONDS)
        return code

    async def stop(self, seconds_max: float) -> None:
        """Ask it to end (SIGTERM), and end it (SIGKILL) where it has not after `seconds_max`."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                await asyncio.wait_for(self.wait(), seconds_max)
            except TimeoutError:
                self.popen.kill()
        await self.wait()


def start(
    name: str,
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | int | None = None,
    keep_open: Sequence[int] = (),
) -> Process:
    """Start a child that dies with this process.

    `output` takes its stdout and stderr (this process's stderr where absent), `environment` is the whole of
    its environment (this process's where absent), `keep_open` are file descriptors it inherits.
    Raises LocalError where it cannot be started.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            f"{name} must be started from the main thread: it dies with the one that starts it"
        )
    try:
        popen = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=_STDERR if output is None else output,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            pass_fds=tuple(keep_open),
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - it neither locks nor imports, see there
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LocalError(f"cannot start {name} ({command[0]}): {error}") from error
    return Process(name, popen)


def _die_with(parent: int) -> Callable[[], None]:
    """Return what ties a child to its parent, to be called in the child before it becomes the program."""
    if not sys.platform.startswith("linux"):
        raise LocalError("the local parts need Linux, whose kernel ends them together with this process")
    # Loaded before the fork: a child of a process with threads must neither import nor load anything.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    kill = int(signal.SIGKILL)

    def tie() -> None:
        if prctl(_PR_SET_PDEATHSIG, kill, 0, 0, 0) != 0:
            os._exit(_ORPHANED)
        # The parent may have died between the fork and the call above, which then had nothing to wait for.
        if os.getppid() != parent:
            os._exit(_ORPHANED)

    return tie
