"""The published contract: schemas in step with the types, and every example handled as it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from pipeline import contract
from pipeline.catalog.apply import parse_file, plan
from pipeline.catalog.rates import RateTable
from pipeline.catalog.rating import cost_nano, is_free
from pipeline.events import Timestamps
from pipeline.journal import RequestRow, decode_rows
from tests.support.builders import Books, Record, reasons

CORPUS = contract.SCHEMAS / "corpus"
INDEX: dict[str, Any] = json.loads((CORPUS / "index.json").read_text(encoding="utf-8"))
FILES: list[dict[str, Any]] = INDEX["files"]


def validator(*, formats: bool) -> jsonschema.Draft202012Validator:
    """Return a validator of the published batch schema."""
    schemas = [json.loads((contract.SCHEMAS / name).read_text()) for name in contract.documents()]
    registry: Registry[Any] = Registry().with_resources(
        (s["$id"], Resource.from_contents(s)) for s in schemas
    )
    checker = jsonschema.FormatChecker(formats=()) if formats else None
    if checker is not None:
        checker.checks("date-time")(
            lambda text: not isinstance(text, str) or Timestamps().ms(text) is not None
        )
    return jsonschema.Draft202012Validator(schemas[1], registry=registry, format_checker=checker)


def corpus_books() -> Books:
    """Return an empty system with the corpus's rates in force."""
    rates = RateTable()
    for rate in plan(rates, parse_file(json.dumps({"rates": INDEX["rates"]}), "rates.json"), 0):
        rates.add(rate)
    return Books(rates=rates)


def received_ms() -> int:
    """Return when the corpus's records arrive."""
    at_ms = Timestamps().ms(INDEX["received_at"])
    assert at_ms is not None
    return at_ms


def test_the_schemas_are_those_of_the_types() -> None:
    for name, text in contract.documents().items():
        committed = (contract.SCHEMAS / name).read_text(encoding="utf-8")
        assert committed == text, f"{name} is out of date: run `python -m pipeline.contract`"


def test_the_descriptions_are_those_of_the_journals_rows_and_of_the_formats() -> None:
    for name, text in contract.descriptions().items():
        committed = (contract.SCHEMAS / name).read_text(encoding="utf-8")
        assert committed == text, f"{name} is out of date: run `python -m pipeline.contract`"


def test_the_schemas_are_valid_schemas(tmp_path: Path) -> None:
    contract.write(tmp_path)
    for name in contract.documents():
        jsonschema.Draft202012Validator.check_schema(json.loads((tmp_path / name).read_text()))


def test_the_index_lists_every_file() -> None:
    there = {
        str(path.relative_to(CORPUS))
        for path in CORPUS.glob("*/*.json")
        if path.parent.name != "followed"  # test_followed.py
    }
    assert sorted(there) == sorted(entry["file"] for entry in FILES)
    assert {reason for entry in FILES for reason in entry["dead_letters"]} == {
        "malformed",
        "invalid",
        "unpriced",
        "too_late",
        "from_the_future",
    }


@pytest.mark.parametrize("entry", FILES, ids=lambda entry: entry["file"])
def test_an_example_is_posted_as_the_index_says(entry: dict[str, Any]) -> None:
    value = (CORPUS / entry["file"]).read_bytes()
    books = corpus_books()
    outcome = books.post([Record(timestamp=received_ms(), value=value)])
    assert reasons(outcome) == entry["dead_letters"]
    rows = [row for record in outcome.journal for row in decode_rows(record) if isinstance(row, RequestRow)]
    assert len(rows) == entry["charged"]
    assert sum(row.irregular > 0 for row in rows) == outcome.counts["irregular"] == entry.get("irregular", 0)
    for row in rows:
        rate = books.rates.in_force(row.model, row.provider, row.at_ms)
        assert row.cost_nano == (0 if is_free(row) or rate is None else cost_nano(rate, *row.counts))
    if "cost_nano" in entry:
        orgs = books.state._spending
        assert -sum(books.balance_nano(org) for org in orgs) == entry["cost_nano"]
    if not entry["charged"] and entry["dead_letters"] and not value.lstrip().startswith(b"["):
        assert [letter.value for letter in outcome.dead_letters] == [value]


@pytest.mark.parametrize("entry", FILES, ids=lambda entry: entry["file"])
def test_the_schema_makes_of_an_example_what_the_index_says(entry: dict[str, Any]) -> None:
    value = (CORPUS / entry["file"]).read_bytes()
    try:
        document = json.loads(value.decode("utf-8"), parse_constant=float)
    except (ValueError, RecursionError):
        assert entry["schema"] == "not JSON"
        return
    if entry["schema"] == "not JSON":
        return
    assert validator(formats=False).is_valid(document) is (entry["schema"] != "refuses")
    assert validator(formats=True).is_valid(document) is (entry["schema"] == "accepts")
