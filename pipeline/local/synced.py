"""Have the disk keep what was written, so that a power cut does not take it.

Owns: syncing of directories. Called by: `local/broker.py`, `local/deployment.py`.

A file that is synced may still be lost with its name: the name is in its directory, which has to be synced too.
"""

from __future__ import annotations

import os
from pathlib import Path


def directory(path: Path) -> None:
    """Return once the names in a directory are on disk. Raises OSError."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def tree(path: Path) -> None:
    """Return once a directory, everything in it and all names are on disk. Raises OSError."""
    for each in sorted(path.rglob("*"), reverse=True):
        _sync(each, os.O_RDONLY)
    directory(path)


def _sync(path: Path, flags: int) -> None:
    opened = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
