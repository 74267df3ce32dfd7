"""One name for one thing: no class name is defined twice in the product."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

_ROOT = Path(__file__).parents[2]

# Names that still stand for two things. It may only become shorter.
_ALLOWED = {"Refusal"}


def _defined_twice(root: Path) -> dict[str, list[str]]:
    """Return the class names with more than one definition below a directory, with the files."""
    files = defaultdict(list)
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                files[node.name].append(path.relative_to(root).as_posix())
    return {name: found for name, found in files.items() if len(found) > 1}


def test_no_class_name_stands_for_two_things() -> None:
    twice = _defined_twice(_ROOT / "pipeline")
    assert {name: files for name, files in twice.items() if name not in _ALLOWED} == {}
    assert twice.keys() >= _ALLOWED, "a name that is free again comes off the list"


def test_a_second_definition_is_seen(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("class Verdict: ...\nclass Part: ...\n", encoding="utf-8")
    (tmp_path / "two.py").write_text("def outer():\n    class Verdict: ...\n", encoding="utf-8")
    assert _defined_twice(tmp_path) == {"Verdict": ["one.py", "two.py"]}
