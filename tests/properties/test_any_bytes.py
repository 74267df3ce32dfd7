"""No bytes stop the core: whatever stands on an input topic, nothing is raised and nothing is lost."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.accounts.commands import encode
from pipeline.accounts.verdicts import decode_record
from pipeline.journal import decode_rows
from pipeline.posting.unit import UnitOutput
from pipeline.topics import BILLING, MOVED, REQUESTS
from tests.support.builders import DROP, EXAMPLES, NOW_MS, Books, event, everything, packed, time_text
from tests.support.commands import COMMANDS

ABSURD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=300),
    st.sampled_from(
        ["\x00progress", "", " ", "٤٢", "9" * 20, "9" * 21, "\U0001f600" * 256, "ab" * 300, "\ud800"]
    ),
    st.sampled_from(
        [
            time_text(NOW_MS),
            "2026-06-12T24:00:00Z",
            "2026-06-30T23:59:60Z",
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
            "2026-06-12 18:29:59Z",
        ]
    ),
    st.sampled_from([[], {}, [[]], {"prompt_tokens": 1}, [None] * 50]),
)
PATHS = st.sampled_from(
    [
        *("specversion", "type", "source", "id", "subject", "time", "sequence", "data", "data__key_id"),
        *("data__tier", "data__byok", "data__model", "data__provider", "data__status", "data__latency_ms"),
        *("data__ttft_ms", "data__stream", "data__error_code", "data__usage", "data__usage__prompt_tokens"),
        *(
            "data__usage__completion_tokens",
            "data__usage__total_tokens",
            "data__usage__prompt_tokens_details",
        ),
        *("data__usage__prompt_tokens_details__cached_tokens", "unknown"),
    ]
)


@st.composite
def odd_events(draw: st.DrawFn) -> Any:
    """Return an event with up to three fields changed, or no event at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(ABSURD)
    made = event(
        draw(st.sampled_from(["e1", "e2", "e3"])), subject=draw(st.sampled_from(["org_1", "org_2", "x"]))
    )
    for path in draw(st.lists(PATHS, max_size=3)):
        *way, last = path.split("__")
        at: Any = made
        for step in way:
            at = at.get(step) if isinstance(at, dict) else None
        if isinstance(at, dict):
            # A copy: a later path may lead into it, and the strategy hands the same object out again.
            at[last] = copy.deepcopy(draw(ABSURD))
    return made


@st.composite
def odd_values(draw: st.DrawFn) -> bytes | None:
    """Return a record's value: events in some form, then perhaps damaged."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.none() | st.binary(max_size=60))
    documents = draw(st.lists(odd_events(), min_size=1, max_size=4))
    document = documents[0] if kind < 4 else documents
    text = json.dumps(document, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
    value = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        at = draw(st.integers(0, max(len(value) - 1, 0)))
        value[at : at + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=3) | st.sampled_from([b"[", b"]", b'"', b"\\"])
        )
    return bytes(value)


FAILED = (
    packed(event(data=DROP))[:-1]
    + b',"data":{"key_id":"k","tier":"trial","byok":false,"model":"m","status":500,'
    b'"latency_ms":1,"usage":7,'
)
"""The beginning of a failed request without a good usage: it is read again without it, up to what comes after."""


def check(outcome: UnitOutput, books: Books) -> None:
    """Everything that came in went somewhere, what goes out can be read, and the state comes back."""
    posted = sum(record.last - record.first + 1 for record in outcome.journal if record.kind == "requests")
    assert sum(len(decode_rows(record)) for record in outcome.journal) == posted
    counts = outcome.counts
    assert counts["events"] == posted + counts["duplicates"] + counts["moved"] + len(outcome.dead_letters)
    for letter in outcome.dead_letters:
        assert dict(letter.headers)["detail"].decode()
        assert letter.reason in ("malformed", "invalid", "unpriced", "too_late", "from_the_future", "leap")
    for key, value in outcome.verdicts:
        decode_record(key, value)
    assert everything(books.restore()) == everything(books.state)


@settings(EXAMPLES, max_examples=300)
@given(st.lists(odd_values(), min_size=1, max_size=3), st.sampled_from([REQUESTS, MOVED]), st.integers(1, 2))
@example([b"[" * 100_000], REQUESTS, 1)
@example([b"[" + packed(event()) + b"," + b'{"a":' * 50_000 + b"}" * 50_000 + b"]"], REQUESTS, 1)
@example([FAILED + b'"error_code":"\xd4"}}'], REQUESTS, 1)
@example([b"[" + FAILED + b'"error_code":"\xd4"}}]'], REQUESTS, 1)
@example([FAILED + b'"more":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"], REQUESTS, 1)
@example([packed(event(time="9999-12-31T23:59:59-23:59"))], MOVED, 1)
@example([packed(event(sequence="9" * 20))], REQUESTS, 1)
@example([packed(event(), event(), event("e2", subject="\x00progress"))], REQUESTS, 2)
@example([b"\xef\xbb\xbf" + packed(event()), b"\n [" + packed(event()) + b"]"], REQUESTS, 1)
def test_any_record_of_requests_is_posted_or_set_aside(
    values: list[bytes | None], topic: str, partitions: int
) -> None:
    books = Books(0, partitions)
    for _ in range(2):
        check(books.publish(*values, topic=topic), books)


@EXAMPLES
@given(st.lists(odd_events(), min_size=2, max_size=5), st.data())
def test_a_bad_element_takes_no_good_neighbour_with_it(documents: list[Any], data: st.DataObject) -> None:
    """An array posts what its elements post one by one, and sets aside each bad element's own bytes."""
    parts = [json.dumps(document).encode() for document in documents]
    broken = data.draw(
        st.sampled_from([b"oops", b"{]", b"-", b'"\\x"', b"1e9999", b'{"a":' * 3_000 + b"1" + b"}" * 3_000])
    )
    parts.insert(data.draw(st.integers(0, len(parts))), broken)
    together, apart = Books(), Books()
    one = together.publish(b"[" + b", ".join(parts) + b"]")
    each = apart.publish(*parts)
    assert [r.value for r in one.journal] == [r.value for r in each.journal]
    letters = [sorted((x.value, x.reason) for x in outcome.dead_letters) for outcome in (one, each)]
    if not any(isinstance(document, list) for document in documents):
        assert letters[0] == letters[1]
    assert together.balance_nano() == apart.balance_nano()


@EXAMPLES
@given(st.data())
def test_any_record_of_commands_is_answered_or_set_aside(data: st.DataObject) -> None:
    books = Books()
    values: list[bytes | None] = []
    for _ in range(data.draw(st.integers(1, 5))):
        fields = json.loads(encode(data.draw(st.sampled_from(COMMANDS))))
        for name in data.draw(st.lists(st.sampled_from(sorted(fields)), max_size=2)):
            fields[name] = data.draw(ABSURD | st.integers(-(2**63), 2**63 - 1))
        value = bytearray(json.dumps(fields).encode())
        if data.draw(st.integers(0, 3)) == 0:
            value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
        values.append(bytes(value))
    outcome = books.publish(*values, topic=BILLING)
    assert outcome.counts["commands"] == len(values) == len(outcome.replies) + len(outcome.dead_letters)
    assert everything(books.restore()) == everything(books.state)
    again = books.publish(*values, topic=BILLING)
    booked_again = sum(record.kind == "ledger" for record in again.journal)
    assert booked_again == 0
