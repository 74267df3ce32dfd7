"""What a module's docstring says of its neighbours is true.

`Called by:` names files of the product that import the module; `Next:` names files that exist.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_HEADS = re.compile(r"\b(Called by|Next|Owns):")
_FILE = re.compile(r"`([\w./{}-]+\.(?:py|sql|html|txt|json|md|js|css))`")
_FOLDER = re.compile(r"`([\w./-]+/)`")
_SENTENCE_END = re.compile(r"\.\s")
# Where a name may start: PATH.md's way, or from inside the product.
_BASES = ("", "pipeline")


def _parts(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield a docstring's heads with what they say, up to the next head or a blank line.

    Of `Called by` that is one sentence: what follows is about the module itself.
    """
    for paragraph in docstring.split("\n\n"):
        heads = list(_HEADS.finditer(paragraph))
        ends = [head.start() for head in heads[1:]] + [len(paragraph)]
        for head, end in zip(heads, ends, strict=False):
            text = paragraph[head.end() : end]
            yield head[1], _SENTENCE_END.split(text)[0] if head[1] == "Called by" else text


def _imports(path: Path) -> set[str]:
    """Return every module that a file imports, and of `from a import b` both `a` and `a.b`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _is_imported(path: Path, by: Path, root: Path) -> bool:
    """Whether a file imports a module, itself or as what the module's package makes public."""
    module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    imported, package = _imports(by), path.with_name("__init__.py")
    is_public = package.exists() and module in _imports(package)
    return module in imported or (is_public and module.rpartition(".")[0] in imported)


def _wrong(root: Path) -> list[str]:
    """Return what the docstrings of a tree's `pipeline/` say that is not so."""
    wrong = []
    for path in sorted((root / "pipeline").rglob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        here = path.relative_to(root).as_posix()
        for head, text in _parts(docstring):
            if head == "Owns":
                continue
            for name in (*_FILE.findall(text), *_FOLDER.findall(text)):
                found = [at for base in _BASES if (at := root / base / name).exists()]
                if not found:
                    wrong.append(f"{here}: {head}: {name} does not exist")
                elif (
                    head == "Called by"
                    and found[0].suffix == ".py"
                    and not _is_imported(path, found[0], root)
                ):
                    wrong.append(f"{here}: {head}: {name} does not import it")
    return wrong


def test_called_by_and_next_are_true() -> None:
    assert _wrong(_ROOT) == []


def test_an_untrue_neighbour_is_seen(tmp_path: Path) -> None:
    room = tmp_path / "pipeline" / "room"
    room.mkdir(parents=True)
    (room / "core.py").write_text(
        '"""Core.\n\nOwns: it. Called by: `room/door.py`, `room/wall.py`, `gone.py`.\nNext: `sql/none.sql`.\n"""',
        encoding="utf-8",
    )
    (room / "door.py").write_text("from pipeline.room import core\n", encoding="utf-8")
    (room / "wall.py").write_text("", encoding="utf-8")
    assert _wrong(tmp_path) == [
        "pipeline/room/core.py: Called by: room/wall.py does not import it",
        "pipeline/room/core.py: Called by: gone.py does not exist",
        "pipeline/room/core.py: Next: sql/none.sql does not exist",
    ]
