"""Making an event ready: identity, numbers, and what is refused."""

from __future__ import annotations

import uuid
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.events import RequestEvent, decode_record
from pipeline.gateway.errors import InvalidEvent
from pipeline.gateway.sending.prepare import prepare, uuid7
from tests.support.builders import DROP, EXAMPLES, NOW_MS, Books, event, reasons

SOURCE = "gateway/mum-1/spool"
FILLED = ("specversion", "type", "source", "id", "sequence")


def bare(**changes: Any) -> dict[str, Any]:
    """Return an event without anything that is filled in."""
    return event(**{**dict.fromkeys(FILLED, DROP), **changes})


def prepared(given_event: Any, sequence: int = 42) -> RequestEvent:
    encoded = prepare(given_event, SOURCE, NOW_MS, bytes(range(10)), sequence).value
    [decoded] = decode_record(encoded) or []
    return decoded


def test_what_is_absent_is_filled_in() -> None:
    made = prepared(MappingProxyType(bare()))
    assert (made.specversion, made.type) == ("1.0", "bharatrouter.request.completed.v1")
    assert (made.source, made.sequence) == (SOURCE, "00000000000000000042")
    assert uuid.UUID(made.id).version == 7
    assert msgspec.to_builtins(made.data)["usage"]["prompt_tokens_details"] == {"cached_tokens": 64}


def test_none_counts_as_absent_where_the_spool_fills_in() -> None:
    assert prepared({**bare(), "id": None, "source": None, "sequence": None}).source == SOURCE


def test_another_source_keeps_its_own_number_or_has_none() -> None:
    assert prepared(event("e7", sequence="7")).sequence == "7"
    assert prepared(event("e7")).sequence is None
    assert prepare(event("e7"), SOURCE, NOW_MS, bytes(10), 1).given_id == ""


def test_an_id_given_for_the_spools_own_source_is_remembered() -> None:
    ready = prepare(bare(id="mine"), SOURCE, NOW_MS, bytes(10), 1)
    assert (ready.given_id, ready.event.id, ready.event.sequence) == ("mine", "mine", "00000000000000000001")


def test_the_mapping_given_is_left_as_it_was() -> None:
    given_event = bare()
    prepared(given_event)
    assert given_event == bare()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"subject": DROP}, "subject"),
        ({"subject": ""}, "subject"),
        ({"subject": "org\n1"}, "subject"),
        ({"time": "yesterday, about noon!"}, "time"),
        ({"time": "2026-06-12T18:29:59.123"}, "time"),
        ({"data": DROP}, "data"),
        ({"data__model": DROP}, "data.model"),
        ({"data__status": "200"}, "data.status"),
        ({"data__tier": "gold"}, "data.tier"),
        ({"data__usage": None}, "data.usage"),
        ({"data__provider": None}, "data.provider"),
        ({"data__usage__prompt_tokens": -1}, "data.usage.prompt_tokens"),
        ({"data__usage__prompt_tokens": 1.5}, "data.usage.prompt_tokens"),
        (
            {"data__usage__prompt_tokens_details": {"cached_tokens": -1}},
            "data.usage.prompt_tokens_details.cached_tokens",
        ),
        ({"sequence": "7"}, "sequence"),
        ({"source": "other", "sequence": "7x"}, "sequence"),
        ({"specversion": "0.3"}, "specversion"),
        ({"subject": "\ud800"}, "event"),
    ],
)
def test_what_could_never_be_charged_is_refused_by_name(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        prepare(bare(**changes), SOURCE, NOW_MS, bytes(10), 1)
    assert caught.value.field == field


@pytest.mark.parametrize("given_event", [None, [], "event", 5])
def test_what_is_no_mapping_is_refused(given_event: Any) -> None:
    with pytest.raises(InvalidEvent, match="expected a mapping"):
        prepare(given_event, SOURCE, NOW_MS, bytes(10), 1)


_VALUES = st.none() | st.booleans() | st.integers(-5, 10**9) | st.text(max_size=5) | st.floats()
_PATHS = st.sampled_from(
    [
        "subject",
        "time",
        "id",
        "data__status",
        "data__provider",
        "data__usage",
        "data__latency_ms",
        "data__usage__prompt_tokens",
        "data__usage__prompt_tokens_details",
        "data__error_code",
    ]
)


@EXAMPLES
@given(st.dictionaries(_PATHS, _VALUES | st.just(DROP), max_size=3))
def test_what_is_accepted_is_charged_by_the_worker(changes: dict[str, Any]) -> None:
    if "data__usage" in changes:
        changes = {path: v for path, v in changes.items() if not path.startswith("data__usage__")}
    try:
        ready = prepare(bare(**changes), SOURCE, NOW_MS, bytes(10), 1)
    except InvalidEvent:
        return
    outcome = Books().publish(ready.value)
    assert set(reasons(outcome)) <= {"unpriced"}
    assert outcome.counts["events"] == 1


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 279, "completion_tokens": 6, "total_tokens": 374},
        {"prompt_tokens": 1, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 965_602}},
        {"prompt_tokens": 8, "total_tokens": 8},
        {"prompt_tokens": 8, "prompt_tokens_details": [], "completion_tokens_details": None},
    ],
    ids=str,
)
def test_counts_that_contradict_each_other_are_no_reason_to_refuse(usage: dict[str, Any]) -> None:
    ready = prepare(bare(data__usage=usage), SOURCE, NOW_MS, bytes(10), 1)
    outcome = Books().publish(ready.value)
    assert (reasons(outcome), len(outcome.journal)) == ([], 1)


def test_a_failed_request_is_published_with_its_usage_as_it_was_given() -> None:
    ready = prepare(bare(data__status=502, data__usage={"prompt_tokens": -5}), SOURCE, NOW_MS, bytes(10), 1)
    assert ready.free
    assert msgspec.json.decode(ready.value)["data"]["usage"] == {"prompt_tokens": -5}
    outcome = Books().publish(ready.value)
    assert (reasons(outcome), len(outcome.journal)) == ([], 1)


def test_a_free_event_is_known_to_be_free() -> None:
    assert prepare(bare(data__status=500), SOURCE, NOW_MS, bytes(10), 1).free
    assert prepare(bare(data__byok=True), SOURCE, NOW_MS, bytes(10), 1).free
    assert not prepare(bare(), SOURCE, NOW_MS, bytes(10), 1).free


@EXAMPLES
@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_uuid7_has_its_time_version_and_variant(at_ms: int, random: bytes) -> None:
    made = uuid.UUID(uuid7(at_ms, random))
    assert (made.int >> 80, made.version, made.variant) == (at_ms, 7, uuid.RFC_4122)
