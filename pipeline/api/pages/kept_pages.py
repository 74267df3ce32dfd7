"""Pages that every stranger sees alike: made once in a while, however many look.

Owns: the pages as they travel, and for how long each is good.
Called by: `api/routes/public.py`.
"""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Response

from pipeline.api.pages.rendering import page_headers

KEPT_MS = 10_000
"""A price that comes into force shows no later than this."""
_LEVEL = 6


@dataclass(frozen=True)
class KeptPage:
    """A page, plain and compressed."""

    html: bytes
    compressed: bytes
    made_ms: int


class KeptPages:
    """The pages by name. Belongs to one event loop; there are as many names as the routes give."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        """Start with none made."""
        self._now_ms = now_ms
        self._kept: dict[str, KeptPage] = {}

    async def answer(self, name: str, make: Callable[[], Awaitable[str]], accept_encoding: str) -> Response:
        """Return a page of at most `KEPT_MS` ago, or make it now. Raises what `make` raises: that is not kept."""
        kept = self._kept.get(name)
        if kept is None or not 0 <= self._now_ms() - kept.made_ms < KEPT_MS:
            html = (await make()).encode()
            kept = KeptPage(html, gzip.compress(html, _LEVEL, mtime=0), self._now_ms())
            self._kept[name] = kept
        headers = page_headers(f"public, max-age={KEPT_MS // 1000}")
        # Who signs in sees another page at the same address.
        headers["Vary"] = "Accept-Encoding, Cookie"
        if "gzip" not in accept_encoding:
            return Response(kept.html, media_type="text/html", headers=headers)
        headers["Content-Encoding"] = "gzip"
        return Response(kept.compressed, media_type="text/html", headers=headers)
