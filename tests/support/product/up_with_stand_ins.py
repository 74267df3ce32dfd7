"""`metering up` with stand-ins for its roles: usage: up_with_stand_ins.py DATA_DIR KAFKA_PORT CHILD...

Each CHILD is NAME=PYTHON CODE. The child `server` is ready when it answers, others at once.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pipeline.local import supervisor
from pipeline.local.deployment import Deployment
from pipeline.local.errors import LocalError
from pipeline.local.supervisor import Child
from pipeline.settings import Settings


def _children(at: Deployment) -> list[Child]:
    children = []
    for argument in sys.argv[3:]:
        name, _, code = argument.partition("=")
        health_url = f"{at.http_url}/healthz" if name == "server" else None
        children.append(Child(name, (sys.executable, "-c", code), health_url, role=Settings))
    return children


def main() -> int:
    """Run until told to stop; 1 with the reason where it failed."""
    settings, kafka_port = Settings(port=0), int(sys.argv[2])
    try:
        asyncio.run(supervisor.up(Path(sys.argv[1]), settings, kafka_port=kafka_port, children=_children))
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
