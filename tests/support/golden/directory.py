"""A data directory on which `metering up` runs: packed, unpacked, and asked.

Owns: which of its files are worth keeping, and what is expected of the accounts in it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from pipeline.local import deployment
from pipeline.local.deployment import Deployment

GOLDEN = Path(__file__).parents[2] / "golden"
READY_LIMIT_S = 90.0
STOP_LIMIT_S = 40.0
LEFT_OUT = frozenset({"lock", "run.json", "secrets.json", "broker.log", "broker.log.1", "server.properties"})
"""What belongs to one run, not to the data. Secrets are made anew where there are none."""


class Expected(msgspec.Struct):
    """What a directory holds: when it was made, what each org has, and how many events wait in its spool."""

    made_ms: int
    balance_nano: dict[str, int]
    waiting: list[str]


def pack(data_dir: Path, archive: Path) -> None:
    """Write a directory into an archive that is the same for the same files, whoever makes it."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if Path(member.name).name in LEFT_OUT:
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(archive, "w:xz", preset=9) as tar:
        tar.add(data_dir, arcname=".", filter=plain)


def unpack(archive: Path, data_dir: Path) -> Expected:
    """Unpack an archive into a new directory, and return what is expected of it."""
    with tarfile.open(archive) as tar:
        tar.extractall(data_dir, filter="data")
    return msgspec.json.decode((data_dir / "expected.json").read_bytes(), type=Expected)


@contextmanager
def up(data_dir: Path) -> Iterator[Deployment]:
    """Run `metering up` on a directory, with two partitions; yields where its parts are, and stops it in order."""
    log = data_dir.with_suffix(".log")
    command = (sys.executable, "-m", "pipeline", "up", "--data-dir", str(data_dir))
    with log.open("wb") as output:
        running = subprocess.Popen(
            [*command, "--port", "0", "--kafka-port", "0"],
            stdout=output,
            stderr=output,
            env={**os.environ, "METERING_PARTITIONS": "2"},
        )
    try:
        until = time.monotonic() + READY_LIMIT_S
        while (at := deployment.running(data_dir)) is None:
            assert running.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield at
        running.send_signal(signal.SIGINT)
        assert running.wait(STOP_LIMIT_S) == 0, log.read_text()
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()


def metering(data_dir: Path, *arguments: str) -> Any:
    """Run a command on the `up` of a directory; return the JSON it prints. It must end with 0."""
    command = (sys.executable, "-m", "pipeline", *arguments, "--data-dir", str(data_dir))
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return msgspec.json.decode(done.stdout) if done.stdout.strip() else None
