"""What tests share has one place: tests/support; simulation and fuzz are programs of their own."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
SHARED = ("support", "simulation", "fuzz")
NAMED_BY_PYTEST = ("__init__.py", "conftest.py")


def test_helpers_stand_where_they_are_looked_for() -> None:
    strays = [
        at.relative_to(TESTS).as_posix()
        for at in sorted(TESTS.rglob("*.py"))
        if at.relative_to(TESTS).parts[0] not in SHARED
        and at.name not in NAMED_BY_PYTEST
        and not at.name.startswith("test_")
    ]
    assert strays == []


def test_no_test_takes_anything_from_another_test() -> None:
    taken = [
        f"{at.relative_to(TESTS)} imports {name}"
        for at in sorted(TESTS.rglob("*.py"))
        for name in _imported(at)
        if name.startswith("tests.") and name.rpartition(".")[2].startswith(("test_", "conftest"))
    ]
    assert taken == []


def _imported(at: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(at.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
        elif isinstance(node, ast.Import):
            names += [each.name for each in node.names]
    return names
