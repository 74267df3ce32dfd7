"""A disk whose power can be cut: what was written to it and not synced is gone, as after a real power cut.

Owns: an ext4 file system in a file, on a loop device, and the end of everything on its way to it.
Called by: the tests of what is left after a power cut, and of a disk that fills.

The cut is ext4's own (`EXT4_IOC_SHUTDOWN`, made for tests of file systems): from then on nothing more reaches the
disk, neither data nor journal. What was there is then mounted again, as a machine does that starts after a cut. It
needs root and loop devices. What a disk loses that lies about what it has synced is not played.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

BYTES = 2 * 1024**3
"""Of the file, of which the machine's disk holds what was written to it alone."""
ENDED_LIMIT_S = 10.0
_SHUTDOWN = 0x8004587D
"""_IOR('X', 125, __u32)."""
_WITHOUT_FLUSHING_THE_JOURNAL = 2
_MOUNT = ("mount", "-o", "loop,commit=600")
"""By itself the file system commits its journal every ten minutes: what is there is what somebody has synced."""


class Disk:
    """A mounted file system whose power can be cut."""

    def __init__(self, image: Path, where: Path) -> None:
        """Use a file that holds a file system, and the directory where it is mounted."""
        self.image, self.where = image, where

    def cut(self) -> None:
        """Cut the power. Whoever still uses it gets errors, and has to end before `restore`."""
        directory = os.open(self.where, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, _SHUTDOWN, struct.pack("I", _WITHOUT_FLUSHING_THE_JOURNAL))
        finally:
            os.close(directory)

    def restore(self) -> None:
        """Turn the power on again: what is there now is what the disk had. Waits for those who still use it to end."""
        until = time.monotonic() + ENDED_LIMIT_S
        while (done := _tried("umount", str(self.where))).returncode:
            assert time.monotonic() < until, done.stderr.decode()
            time.sleep(0.05)
        _run(*_MOUNT, str(self.image), str(self.where))


@contextmanager
def disk(home: Path, size_bytes: int = BYTES) -> Iterator[Disk]:
    """Yield a disk in a directory of its own. Skips the test where this machine cannot have one."""
    image, where = home / "disk.img", home / "disk"
    where.mkdir()
    with image.open("wb") as file:
        file.truncate(size_bytes)
    try:
        _run("mkfs.ext4", "-q", "-F", str(image))
        _run(*_MOUNT, str(image), str(where))
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or str(error).encode()
        pytest.skip(f"a disk of its own needs root, ext4 and loop devices: {said.decode().strip()}")
    try:
        yield Disk(image, where)
    finally:
        with suppress(subprocess.CalledProcessError):
            _run("umount", str(where))
        image.unlink()


def _run(*command: str) -> None:
    _tried(*command).check_returncode()


def _tried(*command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, check=False, capture_output=True)
