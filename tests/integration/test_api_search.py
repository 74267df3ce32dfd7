"""`/me/search`: requests by the number in the list or by the id of their event, of the caller's org alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.api.routes.search import FOUND_MAX, ID_LENGTH_MAX
from pipeline.clickhouse.client import Engine
from pipeline.journal import public_id
from tests.support.api.client import Api, api
from tests.support.builders import NOW_MS
from tests.support.journal_rows import insert, request

UUID = "0197d3c4-6a1e-7c3b-9a55-2f1d6f1e8a10"


@pytest.fixture
def served(engine: Engine) -> Iterator[Api]:
    rows = [request(public_id(0, n), "org_a", NOW_MS - n, event_id=f"event-{n}") for n in range(20)]
    rows += [request(public_id(0, 100 + n), "org_a", NOW_MS, event_id=UUID, source=f"s{n}") for n in range(7)]
    rows += [request(public_id(1, n), "org_b", NOW_MS, event_id=f"theirs-{n}") for n in range(3)]
    insert(engine, rows)
    with api(engine, key_names={"key_1": ("org_a", "the key's name")}) as running:
        yield running


def _found(served: Api, q: str) -> list[int]:
    return [event["id"] for event in served.get("/me/search", "org_a", q=q)["events"]]


def test_a_request_is_found_by_its_number_and_by_its_events_id(served: Api) -> None:
    listed = served.get("/me/activity/events", "org_a", limit=200)["events"]
    wanted = next(event for event in listed if event["id"] == public_id(0, 7))
    for q in (str(wanted["id"]), "event-7", "  event-7 "):
        assert served.get("/me/search", "org_a", q=q)["events"] == [wanted]


def test_an_id_that_several_sources_gave_finds_the_newest(served: Api) -> None:
    assert _found(served, UUID) == [public_id(0, n) for n in range(106, 106 - FOUND_MAX, -1)]


def test_what_is_no_id_of_the_org_finds_nothing(served: Api) -> None:
    ids = ("event", "EVENT-7", "event-7'", "%", "9" * 19, str(2**53), "theirs-1", "٣", str(public_id(1, 1)))
    assert [q for q in ids if _found(served, q)] == []


def test_an_id_that_can_be_none_is_refused(served: Api) -> None:
    for q in ("   ", "x" * (ID_LENGTH_MAX + 1)):
        assert served.refused("/me/search", "org_a", q=q) == (400, "invalid_request", "q")
    assert served.refused("/me/search", "org_a") == (400, "invalid_request", "q")
