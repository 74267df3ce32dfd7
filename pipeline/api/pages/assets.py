"""The pages' scripts and styles: files of ours, under a path that changes when they do.

Owns: which files there are, and how long browsers may keep them.
Called by: `api/routes/pages.py`. The files are in `api/static/billing/`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import Response

from pipeline.api.http.errors import not_found

_DIRECTORY = Path(__file__).parent.parent / "static" / "billing"
_TYPES = {".css": "text/css", ".js": "text/javascript"}
_FILES = {path.name: path.read_bytes() for path in sorted(_DIRECTORY.iterdir()) if path.suffix in _TYPES}

VERSION = hashlib.sha256(b"".join(_FILES.values())).hexdigest()[:12]
"""Part of every address, so that a page never mixes files of two releases."""


def asset_file(version: str, name: str) -> Response:
    """Return one of the files. Raises ApiError 404 for any other name.

    Scripts import each other by relative names, so an address keeps the version; browsers may keep the file
    only where that is this release's.
    """
    content = _FILES.get(name)
    if content is None:
        raise not_found()
    keep = "public, max-age=31536000, immutable" if version == VERSION else "no-store"
    return Response(content, media_type=_TYPES[Path(name).suffix], headers={"Cache-Control": keep})
