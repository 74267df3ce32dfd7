"""What gateways read, as published: schemas that every record of the worker fits, and examples that hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest

from pipeline import contract
from pipeline.accounts.commands import ChangeKey, CreateKey, Credit, SignUp
from pipeline.accounts.keys import decode_key
from pipeline.accounts.verdicts import PROGRESS_KEY, Verdict, decode_record
from pipeline.events import Timestamps
from pipeline.formats import NewerFormatError
from pipeline.gateway.admission.admission import Admission
from pipeline.topics import KEYS, VERDICTS
from tests.support.builders import Books, event, packed

CORPUS = contract.SCHEMAS / "corpus"
INDEX: dict[str, Any] = json.loads((CORPUS / "followed.json").read_text(encoding="utf-8"))
FILES: list[dict[str, Any]] = INDEX["files"]


def _ms(text: str) -> int:
    at_ms = Timestamps().ms(text)
    assert at_ms is not None
    return at_ms


def _validator(file: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((contract.SCHEMAS / file).read_text(encoding="utf-8")))


def _value(file: str) -> bytes:
    return (CORPUS / file).read_bytes()


def _take(admission: Admission, entry: dict[str, Any]) -> None:
    """Take in an example's record as a gateway does. Raises NewerFormatError or MsgspecError where it cannot be read."""
    if entry["topic"] == KEYS:
        admission.take_key(decode_key(_value(entry["file"])))
        return
    told = decode_record(entry["key"].encode(), _value(entry["file"]))
    if isinstance(told, Verdict):
        admission.take_verdict(told)
    else:
        admission.take_progress(told)


def test_the_index_lists_every_file() -> None:
    there = sorted(str(path.relative_to(CORPUS)) for path in (CORPUS / "followed").iterdir())
    assert there == sorted(entry["file"] for entry in FILES)
    assert {entry["schema"] for entry in FILES} == contract.FOLLOWED.keys()


@pytest.mark.parametrize("entry", FILES, ids=lambda entry: entry["file"])
def test_the_schema_makes_of_an_example_what_the_index_says(entry: dict[str, Any]) -> None:
    try:
        document = json.loads(_value(entry["file"]))
    except ValueError:
        assert not entry["accepts"]
        return
    assert _validator(entry["schema"]).is_valid(document) is entry["accepts"]


@pytest.mark.parametrize("entry", FILES, ids=lambda entry: entry["file"])
def test_a_gateway_answers_as_the_index_says(entry: dict[str, Any]) -> None:
    clock = [_ms(INDEX["read_at"])]
    admission = Admission(
        lambda: clock[0], when_stale="open", stale_after_ms=10_000, reservation_limit_ms=900_000
    )
    for earlier in FILES:
        if earlier["file"] == entry.get("after"):
            _take(admission, earlier)
    if not entry["accepts"]:
        with pytest.raises(NewerFormatError if entry.get("stops") else msgspec.MsgspecError):
            _take(admission, entry)
        return
    _take(admission, entry)
    admission.caught_up(clock[0])
    for asked in entry["asks"]:
        clock[0] = _ms(asked.get("at", INDEX["read_at"]))
        no = admission.admit(asked["org"], asked["key_id"], tier=asked["tier"], byok=asked["byok"])
        assert (no.code if no is not None else None) == asked["answer"], asked


def test_what_the_worker_writes_fits_the_schemas() -> None:
    written = list(_written())
    for topic, key, value in written:
        file = _schema_of(topic, key)
        _validator(file).validate(json.loads(value))
    assert {_schema_of(topic, key) for topic, key, _ in written} == contract.FOLLOWED.keys()
    codes = {each[1] for _, _, value in written for each in json.loads(value).get("refused", ())}
    assert codes == {"budget_exceeded", "daily_limit_reached"}


def _schema_of(topic: str, key: bytes) -> str:
    if topic == KEYS:
        return "key.schema.json"
    return "verdict-progress.schema.json" if key == PROGRESS_KEY else "verdict.schema.json"


def _written() -> Iterator[tuple[str, bytes, bytes]]:
    """Yield (topic, key, value) of all that a few units tell gateways: money, a budget and a limit used up."""
    books = Books()
    outcomes = [
        books.send(
            SignUp("1", "org_1", "One", "one@example.in"),
            CreateKey("2", "org_1", "key_1", "app", "br-abc", "00", budget_nano=1, daily_limit=1),
            Credit("3", "org_1", 5, "a credit"),
        ),
        books.publish(packed(event("e1", time="2026-06-12T18:30:00.000Z"))),
        books.send(ChangeKey("4", "org_1", "key_1", revoked=True)),
    ]
    for outcome in outcomes:
        yield from ((VERDICTS, key, value) for key, value in outcome.verdicts)
        yield from ((KEYS, key, value) for key, value in outcome.keys if value is not None)
