"""Run the programs that `make stack` and `make kube` need: one place that says what was asked and what came back, and how far it is.

Called by: tests/support/stack/engine.py, tests/support/stack/images.py and tests/support/stack/composed.py.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LAST_WORDS = 3000
"""How many characters of a program's output an error repeats."""

_began_s = time.monotonic()


def say(message: str) -> None:
    """Print a line for a person, with the seconds since the beginning."""
    sys.stderr.write(f"[{time.monotonic() - _began_s:4.0f} s] {message}\n")
    sys.stderr.flush()


class CommandError(Exception):
    """A program ended with another code than 0, or not in time; the message has its last words."""


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    limit_s: float = 900.0,
    at: Path | None = None,
    given: str | None = None,
) -> str:
    """Return what a program printed on stdout. `given` is its stdin, `at` its directory. Raises CommandError."""
    done = tried(command, environment, limit_s=limit_s, at=at, given=given)
    if done.returncode != 0:
        said = f"{done.stdout[-LAST_WORDS:]}\n{done.stderr[-LAST_WORDS:]}".strip()
        raise CommandError(f"{' '.join(command)}: code {done.returncode}\n{said}")
    return done.stdout


def tried(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    limit_s: float = 900.0,
    at: Path | None = None,
    given: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Return how a program ended, whatever its code; 127 where there is no such program. Raises CommandError past the limit."""
    try:
        return subprocess.run(
            list(command),
            env=dict(environment),
            cwd=at,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(list(command), 127, "", str(error))
    except subprocess.TimeoutExpired:
        raise CommandError(f"{' '.join(command)}: not done within {limit_s:g} s") from None
