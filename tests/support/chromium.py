"""The machine's own Chromium: where it is, and how it is started.

Called by: the browser tests and `tests/support/pictures.py`.
"""

from __future__ import annotations

import os
import shutil

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
