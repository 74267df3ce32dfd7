"""The machine's own Chromium: where it is, how it is started, and when a page is complete.

Called by: the browser tests, `tests/support/pictures.py` and `bench/pages.py`.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from playwright.sync_api import Page

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def chromium_path() -> str | None:
    """Return the path of METERING_TEST_CHROMIUM or of Debian's package, None where there is neither."""
    return os.environ.get("METERING_TEST_CHROMIUM") or shutil.which("chromium")


@dataclass(frozen=True)
class LoadTimes:
    """When a page showed the first of its numbers and when it showed all, in ms since it was asked for."""

    first_ms: float
    complete_ms: float


WATCH_LOADING = """(() => {
    const times = window.loadTimes = {first_ms: null, complete_ms: null};
    let most = 0;
    const look = () => {
        const seen = (each) => each.checkVisibility();
        const waiting = [...document.querySelectorAll(".waiting")].filter(seen).length;
        const loaded = document.readyState === "complete";
        most = Math.max(most, waiting);
        if (times.first_ms === null && (waiting < most || (loaded && waiting === 0))) {
            times.first_ms = performance.now();
        }
        if (loaded && waiting === 0) times.complete_ms = performance.now();
        else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
})()"""
"""A script for `add_init_script`: each frame it counts what still says that it is waiting."""


def load_times(page: Page, limit_ms: float) -> LoadTimes:
    """Return when a page that has WATCH_LOADING was complete. Raises playwright's TimeoutError after `limit_ms`."""
    page.wait_for_function("() => window.loadTimes.complete_ms !== null", timeout=limit_ms)
    return LoadTimes(**page.evaluate("() => window.loadTimes"))
