"""Find the files that belong to the package and stand beside it: SQL, schemas, the example catalog.

Owns: where they are. In a checkout they are in the repository's root, where people look for them; a wheel carries
them inside the package (`pyproject.toml`, force-include).
"""

from __future__ import annotations

from pathlib import Path

_IN_WHEEL = Path(__file__).with_name("_shipped")
_ROOT = Path(__file__).resolve().parent.parent


def shipped(path: str) -> Path:
    """Return where a file or folder is, named as in the repository, such as `deploy/catalog.yaml`."""
    return (_IN_WHEEL if _IN_WHEEL.is_dir() else _ROOT) / path
