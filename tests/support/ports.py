"""Ports for what tests start, kill and start again: nobody else takes one meanwhile.

Owns: which ports. They lie below those that the kernel gives to connections and to whoever takes any port, and
the lanes of one run never share one.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from pipeline.local import ports

LOWEST = 15_000


def _of_this_lane() -> list[int]:
    """Return the ports this lane may use, in an order of its own: other runs may be on the machine."""
    lane = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    lanes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    mine = [port for port in range(LOWEST, ephemeral) if port % lanes == lane]
    random.shuffle(mine)
    return mine


_unused = _of_this_lane()


def free() -> int:
    """Return a port that nobody listens on, and that was not returned before."""
    while _unused:
        port = _unused.pop()
        if ports.is_free(port):
            return port
    return ports.free()
