"""Pictures of the board's rows in docs/pictures, light and dark.

Owns: their names. Called by: tests/board.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.support.board.drawing import SCHEMES, WIDTH, Shown, drawn
from tests.support.chromium import FLAGS
from tests.support.pictures import HOME, as_webp


def keep_pictures(shown: Sequence[Shown], times: tuple[float, float], chromium: str) -> list[Path]:
    """Draw each row over a time, in both schemes, and return where the pictures are."""
    made = []
    for old in HOME.glob("board-*.webp"):
        old.unlink()
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=list(FLAGS)) as browser,
    ):
        page = browser.new_page(viewport={"width": WIDTH, "height": 600})
        for row, panels in groupby(shown, key=lambda each: each.panel.row):
            together = list(panels)
            for scheme, colours in SCHEMES.items():
                picture = HOME / f"board-{row.lower().replace(' ', '-')}-wide-{scheme}.webp"
                picture.write_bytes(_photographed(page, drawn(row, together, *times, colours)))
                made.append(picture)
    return made


def _photographed(page: Page, svg: str) -> bytes:
    page.set_content(f'<body style="margin: 0">{svg}</body>')
    return as_webp(page, page.locator("svg").screenshot())
