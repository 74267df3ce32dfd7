"""The provider that gateways ask, as a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import ports
from tests.support.gateway.platform import eventually, is_healthy

ROOT = Path(__file__).parents[3]
START_LIMIT_S = 60.0


@contextmanager
def provider(home: Path) -> Iterator[str]:
    """Run it, and yield its URL once it answers; its log is in `home`."""
    port = ports.free()
    command = [sys.executable, "-m", "tests.support.gateway.upstream", str(port)]
    with (home / "provider.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: is_healthy(f"{url}/docs"), START_LIMIT_S)
        yield url
    finally:
        process.kill()
        process.wait()
