"""What axe finds wrong with a page: the rules of WCAG, as far as a program can check them.

Called by: the browser tests.
"""

from __future__ import annotations

from importlib.resources import files

import pytest
from playwright.sync_api import Page

_RUN = """() => axe.run().then((found) => found.violations
    .filter((each) => ["serious", "critical"].includes(each.impact))
    .map((each) => `${each.id}: ${each.nodes.map((node) => node.html).join(" | ")}`))"""


def serious_findings(page: Page) -> list[str]:
    """Return the serious and critical findings of a page, each with its elements; skips where axe is not installed."""
    pytest.importorskip("axe_playwright_python")
    # Half a megabyte of script, which a page that was looked at in another colour scheme has already.
    if page.evaluate("typeof axe === 'undefined'"):
        page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(_RUN)
    return found
