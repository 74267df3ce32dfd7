"""Lanes: tests over real parts run side by side, as most of their time they wait.

Owns: what stays together in one lane, and which comes first. Called by: tests/conftest.py, for
`pytest -n 3 --dist loadfile`, which is how `make test` runs them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

TESTS = Path(__file__).parents[1]
FOLDERS = ("tests/crash", "tests/browser", "tests/product")
"""One product serves several files there; and one storm at a time is enough for a machine."""
LONG = (
    "tests/crash",
    "tests/cluster/test_brokers_die.py",
    "tests/integration/test_billing_returns.py",
    "tests/product",
    "tests/integration/test_demo.py",
    "tests/integration/test_refusing.py",
    "tests/browser",
    "tests/integration/test_billing.py",
    "tests/golden/test_golden.py",
    "tests/integration/test_up.py",
    "tests/integration/test_secured.py",
    "tests/integration/test_standin_gateway.py",
    "tests/integration/test_gateway.py",
    "tests/integration/test_rebuild.py",
    "tests/integration/mail/test_mailer.py",
    "tests/integration/test_broker.py",
)
"""What takes longest comes first, so that all lanes end at much the same time."""


def together(file: str) -> str:
    """Return what a file's tests stay together with: its folder, or the file alone."""
    return next((folder for folder in FOLDERS if file.startswith(f"{folder}/")), file)


def rank(item: pytest.Item) -> int:
    """Return a test's place; those with the same keep their order."""
    unit = together(item.path.relative_to(TESTS.parent).as_posix())
    return LONG.index(unit) if unit in LONG else len(LONG)


class Lanes(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist is published without types
    """Gives each lane the next unit as soon as it is nearly done with its last one."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        """Keep the order of `rank`: the scheduler's own counts tests, not seconds."""
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return together(super()._split_scope(nodeid))
