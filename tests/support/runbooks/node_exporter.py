"""node_exporter for a broker's disk alone: whatever else this machine has mounted is not the broker's.

Called by: tests/support/runbooks/brokers.py. The program is Debian's, fetched by tests/support/prometheus.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import ports

MOUNTS = Path("/proc/self/mounts")


@contextmanager
def showing(program: str, mounted: Path, home: Path) -> Iterator[str]:
    """Run it for one file system, in a directory; yield host:port where it answers."""
    shown = home / "proc" / "1"
    shown.mkdir(parents=True)
    lines = MOUNTS.read_text(encoding="utf-8").splitlines(keepends=True)
    (shown / "mounts").write_text("".join(each for each in lines if each.split()[1] == str(mounted)))
    address = f"127.0.0.1:{ports.free()}"
    command = [
        *(program, "--collector.disable-defaults", "--collector.filesystem"),
        # Of the default those folders are left out that a test's own may lie in.
        *("--collector.filesystem.mount-points-exclude=^/(dev|proc|sys)($|/)", f"--path.procfs={home}/proc"),
        f"--web.listen-address={address}",
    ]
    with (home / "node-exporter.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(20)
