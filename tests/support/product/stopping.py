"""A role that is told to stop, as Kubernetes and systemd do: how long it may take, and what it may not say.

Called by: tests/crash.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time

from tests.support.deploy import DEPLOY, read_yaml
from tests.support.product.processes import Role

VALUES = read_yaml(DEPLOY / "helm" / "metering" / "values.yaml")
STOP_DELAY_S = 3.0
"""METERING_STOP_DELAY_S where it is not set: for so long a server that is told to stop goes on answering."""
SAID_OF_FAULTS = re.compile(r"^.*( ERROR | CRITICAL |Traceback).*$", re.MULTILINE)


def grace_s(command: str) -> float:
    """Return how long the chart waits for a role before it kills it."""
    own: float = VALUES[command]["terminationGracePeriodSeconds"]
    return own + STOP_DELAY_S if command == "server" else own


async def stopped(role: Role) -> float:
    """Tell a role to stop; return the seconds until it has ended. Raises AssertionError where that is not as it should be."""
    assert role.process is not None
    begun = time.monotonic()
    role.signal(signal.SIGTERM)
    code = await asyncio.to_thread(role.process.wait, grace_s(role.command))
    took_s = time.monotonic() - begun
    assert code == 0, role.words()
    assert SAID_OF_FAULTS.findall(role.log.read_text(errors="replace")) == [], role.name
    return took_s
