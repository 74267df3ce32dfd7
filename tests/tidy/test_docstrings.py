"""What the product's module docstrings say of their neighbours is so: files are there, and callers import."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "pipeline").rglob("*.py"))

# A path that begins with a slash is an address of a server.
_FILE = re.compile(r"(?<![/\w])`?((?:[\w-]+/)+[\w.-]+\.(?:py|md|sql|json|html|js|txt))`?")
_CALLERS = re.compile(r"Called by:(.*?)(?:\. |\.\n|\.$|\n\n|$)", re.DOTALL)


def _docstring(at: Path) -> str:
    return ast.get_docstring(ast.parse(at.read_text(encoding="utf-8"))) or ""


def _found(name: str, at: Path) -> Path | None:
    """Return a file that a docstring names: from the root, from `pipeline/`, or from the module's package."""
    return next(
        (base / name for base in (ROOT, ROOT / "pipeline", at.parent) if (base / name).exists()), None
    )


def _reaches(caller: Path, module: str) -> bool:
    direct = _imports(caller)
    sources = {ROOT / f"{name.replace('.', '/')}.py" for name in direct}
    sources |= {ROOT / name.replace(".", "/") / "__init__.py" for name in direct}
    return module in direct or any(module in _imports(each) for each in sources if each.exists())


@cache
def _imports(at: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(at.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
        elif isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
    return names


@pytest.mark.parametrize("at", MODULES, ids=lambda at: at.relative_to(ROOT).as_posix())
def test_the_files_of_a_docstring_are_there(at: Path) -> None:
    assert [name for name in _FILE.findall(_docstring(at)) if _found(name, at) is None] == []


@pytest.mark.parametrize("at", MODULES, ids=lambda at: at.relative_to(ROOT).as_posix())
def test_who_is_said_to_call_a_module_imports_it(at: Path) -> None:
    """Or imports what does: a call may go through an object that another module made."""
    module = ".".join(at.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    said = _CALLERS.search(_docstring(at))
    callers = [_found(name, at) for name in _FILE.findall(said[1])] if said else []
    assert [
        caller.relative_to(ROOT).as_posix()
        for caller in callers
        if caller is not None and caller.suffix == ".py" and not _reaches(caller, module)
    ] == []
