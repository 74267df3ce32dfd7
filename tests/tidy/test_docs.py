"""What the docs name is there: files, links, names along docs/PATH.md, folders on the map, words of the glossary."""

from __future__ import annotations

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import topics
from pipeline.settings import Settings, variable

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXAMPLES = [each for each in (ROOT / "examples").rglob("*.md") if "node_modules" not in each.parts]
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "schemas").rglob("*.md"), *EXAMPLES])
PICTURE = runpy.run_path(str(DOCS / "picture.py"))

_QUOTED = re.compile(r"`([^`\n]+)`")
_PLACE = re.compile(r"(?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|md|sql|json|yaml|yml|html|js|toml|svg)")
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?")
_LINK = re.compile(r"\]\(([^)#\s]+)")


def _quoted(text: str) -> Iterator[str]:
    fenced = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    yield from _QUOTED.findall(fenced)


def _place(name: str, page: Path) -> Path | None:
    """Return where a place named on a page is: from the root, from `pipeline/`, or from the page's folder; modules with `.py` or without."""
    bases = (ROOT, ROOT / "pipeline", page.parent)
    found = [at for base in bases for at in (base / name, base / f"{name}.py") if at.exists()]
    return found[0] if found else None


def _names(source: Path) -> set[str]:
    """Return the names that a module defines: `name`, and `Class.method` and fields."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    found.add(f"{node.name}.{inner.name}")
                elif isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                    found.add(f"{node.name}.{inner.target.id}")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_files_and_links_of_a_page_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    tops = {each.name for each in ROOT.iterdir() if each.is_dir()}
    tops |= {each.name for each in (ROOT / "pipeline").iterdir() if each.is_dir()}
    # `journal/N` is what `metering verify` says of a partition.
    named = {
        each
        for each in _quoted(text)
        if _PLACE.fullmatch(each) and each.split("/")[0] in tops and "/" in each and not each.endswith("/N")
    }
    linked = {each for each in _LINK.findall(text) if "://" not in each}
    missing = sorted(each for each in named | linked if _place(each, page) is None)
    assert missing == []


def test_no_page_holds_what_a_merge_left_undecided() -> None:
    undecided = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)
    assert [page.name for page in PAGES if undecided.search(page.read_text(encoding="utf-8"))] == []


def _steps() -> list[str]:
    text = (DOCS / "PATH.md").read_text(encoding="utf-8")
    start = text.index("\n1. ")
    return re.split(r"\n(?=\d+\. |\n)", text[start:].strip())


@pytest.mark.parametrize("step", _steps(), ids=lambda step: step.split("\n")[0][:40])
def test_a_step_of_the_path_names_what_is_there(step: str) -> None:
    quoted = list(_quoted(step))
    places = [each for each in quoted if _PLACE.fullmatch(each) and "/" in each]
    assert places, "a step names a file"
    known: set[str] = set()
    for each in places:
        at = ROOT / each
        assert at.exists(), each
        if at.suffix == ".py":
            known |= _names(at)
    names = [each for each in quoted if _NAME.fullmatch(each) and not each.startswith("metering.")]
    assert [each for each in names if each not in known] == []
    if any(each.endswith(".py") for each in places) and "siblings" not in step:
        assert names, "a step says what to look for"


def test_the_path_is_numbered_without_a_gap() -> None:
    numbers = [int(step.split(".")[0]) for step in _steps() if step[0].isdigit()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_folder_of_the_product_is_on_the_map() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1] for row in text.splitlines() if row.startswith("| `")]
    on_map = [name for row in rows for name in _QUOTED.findall(row)]
    packages = (
        each.parent.relative_to(ROOT / "pipeline") for each in (ROOT / "pipeline").rglob("*/__init__.py")
    )
    folders = {f"{each.as_posix()}/" for each in packages if each != Path()}
    assert sorted(folders - set(on_map)) == []
    assert [name for name in on_map if name.endswith("/") and name not in folders] == []


def test_the_picture_is_up_to_date() -> None:
    committed = (DOCS / "architecture.svg").read_text(encoding="utf-8")
    assert committed == PICTURE["drawn"](), "run `python docs/picture.py`"


def test_every_topic_is_in_the_picture_once() -> None:
    drawn = [topic for party in (*PICTURE["WRITERS"], *PICTURE["READERS"]) for topic in party.topics]
    assert sorted(drawn) == sorted(topic.name for topic in topics.TOPICS)


def _terms() -> list[tuple[str, list[str]]]:
    """Return each word of the glossary with the names in the code that it gives."""
    rows = [
        row.split("|")
        for row in (DOCS / "glossary.md").read_text(encoding="utf-8").splitlines()
        if row.startswith("| **")
    ]
    return [(row[1].strip().strip("*"), _QUOTED.findall(row[3])) for row in rows]


@pytest.fixture(scope="module")
def defined() -> set[str]:
    """Every name that the product defines, and its topics."""
    found = {topic.name for topic in topics.TOPICS}
    for source in (ROOT / "pipeline").rglob("*.py"):
        found |= _names(source)
    return found


@pytest.mark.parametrize(
    ("term", "names"), _terms(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_names_of_a_word_are_in_the_code(defined: set[str], term: str, names: list[str]) -> None:
    assert names, f"{term} names nothing in the code"
    missing = [name for name in names if name not in defined and _place(name, DOCS) is None]
    assert missing == [], term


def test_the_glossary_has_one_entry_a_word_in_order() -> None:
    words = [term.casefold() for term, _ in _terms()]
    assert words == sorted(set(words))


def test_every_setting_is_told_of_on_a_page_or_in_the_example_environment() -> None:
    told = "\n".join(page.read_text() for page in [*PAGES, ROOT / "deploy" / "example.env"])
    untold = [name for name in Settings.model_fields if not re.search(rf"\b{variable(name)}\b", told)]
    assert not untold
