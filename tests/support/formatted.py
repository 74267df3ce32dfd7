"""A broker of a test's own, in a directory that is formatted already: each format is a JVM that starts and ends.

Owns: what Kafka's own format leaves in a directory, made once a process; each broker has a cluster id of its own all the same.
Called by: `tests/support/parts.py`, and whatever runs a product around a broker of its own.
"""

from __future__ import annotations

import functools
import re
import secrets
import subprocess
import tempfile
from pathlib import Path

from pipeline.local import jars
from pipeline.local.broker import Broker, java
from tests.support import ports

_CLUSTER = re.compile(rb"^cluster\.id=.*$", re.MULTILINE)


def new_broker(home: Path) -> Broker:
    """Return a broker, not yet started, for data that nobody keeps. `home` is made for it."""
    data = home / "data"
    data.mkdir(parents=True)
    cluster = f"cluster.id={_new_cluster()}".encode()
    for name, content in _formatted().items():
        (data / name).write_bytes(_CLUSTER.sub(cluster, content))
    return Broker(home, ports.free(), is_synced=False)


@functools.cache
def _formatted() -> dict[str, bytes]:
    """Return the files of a directory that was just formatted, by name."""
    class_path = ":".join(str(jar) for jar in jars.ensure())
    with tempfile.TemporaryDirectory(prefix="metering-format-") as made:
        data = Path(made) / "data"
        settings = Broker(Path(made), 0, is_synced=False)._write_settings(data, ports.free())
        arguments = ("format", "--cluster-id", _new_cluster(), "--config", str(settings))
        # Not as the broker itself does it: a test may have a loop of its own.
        subprocess.run(
            java(class_path, "kafka.tools.StorageTool", *arguments), check=True, capture_output=True
        )
        return {path.name: path.read_bytes() for path in data.iterdir()}


def _new_cluster() -> str:
    # 22 characters of URL-safe base64, the first of them no minus.
    return f"A{secrets.token_urlsafe(16)[1:]}"
