"""The pages' scripts and styles, under a path that changes when they do.

Owns: which files there are, how long browsers may keep them, and that they travel compressed.
Called by: `api/routes/pages.py`, `api/pages/rendering.py`. The files are in `api/static/pages/`; the library of the
charts is beside that folder, as its makers release it.
"""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path

from fastapi import Response

from pipeline.api.http.errors import not_found

_STATIC = Path(__file__).parent.parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript"}
_PATHS = (*sorted((_STATIC / "pages").iterdir()), _STATIC / "chart.umd.min.js")
_FILES = {path.name: path.read_bytes() for path in _PATHS if path.suffix in _TYPES}

VERSION = hashlib.sha256(b"".join(_FILES.values())).hexdigest()[:12]
"""Part of every address, so that a page never mixes files of two releases."""


def asset_file(version: str, name: str, accept_encoding: str) -> Response:
    """Return one of the files, compressed where the browser takes that. Raises ApiError 404 for any other name.

    Scripts import each other by relative names, so an address keeps the version; browsers may keep the file
    only where that is this release's.
    """
    if name not in _FILES:
        raise not_found()
    keep = "public, max-age=31536000, immutable" if version == VERSION else "no-store"
    headers = {"Cache-Control": keep, "Vary": "Accept-Encoding"}
    content = _FILES[name]
    if "gzip" in accept_encoding:
        content, headers["Content-Encoding"] = compressed(name), "gzip"
    return Response(content, media_type=_TYPES[Path(name).suffix], headers=headers)


@cache
def compressed(name: str) -> bytes:
    """Return a file as it travels."""
    return gzip.compress(_FILES[name], mtime=0)
