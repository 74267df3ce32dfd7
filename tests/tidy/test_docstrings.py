"""What the product's module docstrings say of their neighbours is so: files are there, and callers import."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

# A path that begins with a slash is an address of a server.
_FILE = re.compile(r"(?<![/\w])`?((?:[\w-]+/)+[\w.-]+\.(?:py|md|sql|json|html|js|txt))`?")
# One sentence: what follows is about the module itself.
_CALLERS = re.compile(r"Called by:(.*?)(?:\.\s|\.$|\n\n|$)", re.DOTALL)


def _docstring(at: Path) -> str:
    return ast.get_docstring(ast.parse(at.read_text(encoding="utf-8"))) or ""


def _found(name: str, at: Path, root: Path) -> Path | None:
    """Return a file that a docstring names: from the root, from `pipeline/`, or from the module's package."""
    bases = (root, root / "pipeline", at.parent)
    return next((base / name for base in bases if (base / name).exists()), None)


@cache
def _imports(at: Path) -> set[str]:
    """Return every module that a file imports; of `from a import b` both `a` and `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(at.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
        elif isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
    return names


def _is_imported(at: Path, by: Path, root: Path) -> bool:
    """Return whether a file imports a module, itself or as what the module's package makes public."""
    module = ".".join(at.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    package = at.with_name("__init__.py")
    is_public = package.exists() and module in _imports(package)
    return module in _imports(by) or (is_public and module.rpartition(".")[0] in _imports(by))


def _untrue(root: Path) -> list[str]:
    """Return what the docstrings of the modules below `pipeline/` say that is not so."""
    untrue = []
    for at in sorted((root / "pipeline").rglob("*.py")):
        here, docstring = at.relative_to(root).as_posix(), _docstring(at)
        untrue += [
            f"{here}: {name} is not there"
            for name in _FILE.findall(docstring)
            if _found(name, at, root) is None
        ]
        said = _CALLERS.search(docstring)
        for name in _FILE.findall(said[1]) if said else ():
            caller = _found(name, at, root)
            if caller is not None and caller.suffix == ".py" and not _is_imported(at, caller, root):
                untrue.append(f"{here}: {name} does not import it")
    return untrue


def test_the_files_of_a_docstring_are_there_and_who_is_said_to_call_a_module_imports_it() -> None:
    assert _untrue(ROOT) == []


def test_what_is_untrue_is_seen(tmp_path: Path) -> None:
    room = tmp_path / "pipeline" / "room"
    room.mkdir(parents=True)
    core = """Core.

    Owns: it. Called by: `room/door.py`, `room/wall.py`, `room/gone.py`. Not `room/other.py`, which is there.
    Next: `sql/none.sql`.
    """
    (room / "core.py").write_text(f'"""{core}"""', encoding="utf-8")
    (room / "door.py").write_text("from pipeline.room import core\n", encoding="utf-8")
    (room / "wall.py").touch()
    (room / "other.py").touch()
    assert _untrue(tmp_path) == [
        "pipeline/room/core.py: room/gone.py is not there",
        "pipeline/room/core.py: sql/none.sql is not there",
        "pipeline/room/core.py: room/wall.py does not import it",
    ]
