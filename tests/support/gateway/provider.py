"""The provider that gateways ask, as a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import ports

ROOT = Path(__file__).parents[3]


@contextmanager
def provider(home: Path) -> Iterator[str]:
    """Run it, and yield its URL; its log is in `home`."""
    port = ports.free()
    command = [sys.executable, "-m", "tests.support.gateway.upstream", str(port)]
    with (home / "provider.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
