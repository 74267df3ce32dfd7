"""A disk whose power can be cut: a file system in a file, of which only what was synced is there afterwards.

Owns: making, mounting and cutting it. Needs root and loop devices; who lacks them is told why the test is skipped.

The kernel keeps what processes have written in its own memory until somebody asks for it to be on the disk (fsync), or half a
minute has passed. The file that holds the file system has only what the kernel has handed to the disk. So a copy of
it, taken at any moment and mounted, is what a machine finds after a power cut at that moment. A disk that says that data is
safe while it is in its own memory is not played, nor one that tears a block.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class LoopDisk:
    """A mounted file system; `path` is where."""

    def __init__(self, home: Path) -> None:
        """Prepare; `power_disk` makes and mounts it."""
        self._home = home
        self._cuts = 0
        self._mounted: list[Path] = []
        self.path = home / "disk-0"

    def make(self, mib: int) -> None:
        """Make and mount it. Raises CalledProcessError or FileNotFoundError where that cannot be done here."""
        image = self._image()
        _run("truncate", "-s", f"{mib}M", str(image))
        # Nothing may be written later than it has to be, nor by the kernel itself.
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
        self._mount(image)

    def cut(self) -> Path:
        """Cut the power: return where what is left is mounted. Whoever wrote to it must have been killed before."""
        before = self._image()
        self._cuts += 1
        _run("cp", "--sparse=always", str(before), str(self._image()))
        self._mount(self._image())
        return self.path

    def release(self) -> None:
        """Unmount everything. Nobody may have a file open there."""
        for path in reversed(self._mounted):
            _run("umount", str(path))
        for number in range(self._cuts + 1):
            (self._home / f"image-{number}").unlink(missing_ok=True)

    def _image(self) -> Path:
        return self._home / f"image-{self._cuts}"

    def _mount(self, image: Path) -> None:
        self.path = self._home / f"disk-{self._cuts}"
        self.path.mkdir()
        # The journal of the file system is written when somebody asks for it, not every 5 s.
        _run("mount", "-o", "loop,commit=600", str(image), str(self.path))
        self._mounted.append(self.path)


@contextmanager
def power_disk(home: Path, mib: int = 1024) -> Iterator[LoopDisk]:
    """Yield a disk, or skip the test where none can be made."""
    disk = LoopDisk(home)
    try:
        disk.make(mib)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        said = error.stderr.decode() if isinstance(error, subprocess.CalledProcessError) else str(error)
        pytest.skip(f"a power cut needs root, mkfs.ext4 and loop devices: {said.strip()}")
    try:
        yield disk
    finally:
        disk.release()


def _run(*command: str) -> None:
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(command[0])
    subprocess.run([program, *command[1:]], check=True, capture_output=True)
