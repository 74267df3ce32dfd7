"""The one product of this folder.

Its files run in the order of their names, and each begins with what the one before has left: that is the point.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.product.opened_world import opened_world
from tests.support.product.world import World

CATALOG = """
rates:
  - {model: krutrim-2, provider: krutrim, effective_from: "2026-01-01T00:00:00+05:30",
     input_inr_per_mtok: "12.5", cached_input_inr_per_mtok: "3.125", output_inr_per_mtok: "50"}
  - {model: gift-1, provider: krutrim, effective_from: "2026-01-01T00:00:00+05:30",
     input_inr_per_mtok: "0", output_inr_per_mtok: "0"}
"""


@pytest.fixture(autouse=True)
def _settings_of_nobody() -> None:
    """The processes here get their settings from the shop."""


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Broker, ClickHouse, worker, sink, server with mailer, Razorpay and a mail server: all of them processes."""
    home = tmp_path_factory.mktemp("world")
    with opened_world(home) as opened:
        (home / "catalog.yaml").write_text(CATALOG)
        assert opened.metering("catalog", "apply", str(home / "catalog.yaml"))["published"] == 2
        yield opened
