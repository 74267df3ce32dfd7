"""One run of the demo under a real Prometheus, for all tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.board.observed import Observed, observed_demo
from tests.support.prometheus import program


@pytest.fixture(scope="session")
def observed() -> Iterator[Observed]:
    """Watch the demo for some minutes; skipped where there is no Prometheus."""
    found = program("prometheus")
    if found is None:
        pytest.skip("prometheus is not installed (Debian's package prometheus has it)")
    with observed_demo(found) as run:
        yield run
