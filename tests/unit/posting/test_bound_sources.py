"""Sources that are bound to a gateway's key: what the worker charges of a record, by who signed it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.gateway_book import GatewayBook, GatewayKey, RegisteredGateway
from pipeline.posting.unit import UnitOutput
from pipeline.topics import MOVED, REQUESTS
from tests.support.builders import COMMAND_KEYS, COST_NANO, NOW_MS, Books, Record, event, packed, reasons

[ROOT] = COMMAND_KEYS.keys
MUMBAI, DELHI = GatewayKey.derived(ROOT, "mum-1", 1), GatewayKey.derived(ROOT, "del-1", 1)
FAR = 10**15
"""A number that makes duplicates of all that its source sends after it."""


@pytest.fixture
def books() -> Books:
    """Books of a worker that knows two gateways."""
    made = Books()
    for name in ("mum-1", "del-1"):
        made.gateways.add(RegisteredGateway(name, (1,)))
    return made


def numbered(number: int, source: str = "gateway/mum-1/5f0c", **changes: Any) -> dict[str, Any]:
    """Return an event of a source with a number."""
    return event(f"e{number}", source=source, sequence=f"{number:020}", **changes)


def post(
    books: Books, signer: GatewayKey | None, *events: dict[str, Any], topic: str = REQUESTS
) -> UnitOutput:
    """Post a record of some events that somebody signed, or nobody."""
    value = packed(*events)
    headers: Sequence[tuple[str, bytes]] = signer.headers(value, 0) if signer is not None else ()
    offset = books.next_offset[topic]
    books.next_offset[topic] = offset + 1
    return books.post([Record(topic, 0, offset, NOW_MS, value, headers)])


def charged(books: Books) -> int:
    """Return how many events the org has been charged for."""
    requests, rest = divmod(-books.balance_nano(), COST_NANO)
    assert rest == 0
    return requests


@pytest.mark.parametrize("signer", [None, DELHI, GatewayKey.derived(b"another command key", "mum-1", 1)])
def test_nobody_else_can_silence_a_registered_gateway(books: Books, signer: GatewayKey | None) -> None:
    """Its first event comes by somebody else, with a number far ahead: so no bound on leaps would see it."""
    outcome = post(books, signer, numbered(FAR))
    assert reasons(outcome) == ["unsigned"]
    assert charged(books) == 0
    assert reasons(post(books, MUMBAI, numbered(1), numbered(2))) == []
    assert charged(books) == 2


def test_of_a_record_only_what_its_sender_may_send_is_charged(books: Books) -> None:
    outcome = post(
        books,
        DELHI,
        numbered(1, "gateway/del-1/a"),
        numbered(1, "gateway/mum-1/b"),
        numbered(2, "gateway/del-1/a"),
        event("of nobody", source="gateway/new-1"),
    )
    assert reasons(outcome) == ["unsigned"]
    [letter] = outcome.dead_letters
    assert b"gateway/mum-1/b" in letter.value
    assert b"gateway/del-1" not in letter.value
    assert charged(books) == 3


def test_where_all_have_to_be_registered_the_others_are_refused() -> None:
    books = Books()
    books.gateways = GatewayBook(COMMAND_KEYS.keys, all_signed=True)
    assert reasons(post(books, None, event())) == ["unsigned"]
    books.gateways.add(RegisteredGateway("mum-1", (1,)))
    assert reasons(post(books, MUMBAI, event())) == []
    assert charged(books) == 1


def test_a_signed_record_that_is_written_again_has_no_second_effect(books: Books) -> None:
    for _ in range(2):
        assert reasons(post(books, MUMBAI, numbered(7), event("unnumbered", source="gateway/mum-1"))) == []
    assert charged(books) == 2


@pytest.mark.parametrize("again", ["redriven", "published again", "both"])
def test_what_a_gateway_sent_without_its_key_is_charged_once_whichever_way_it_comes(
    books: Books, again: str
) -> None:
    """Moved events were let through by an operator, or looked at where they were first read."""
    assert reasons(post(books, None, numbered(1))) == ["unsigned"]
    if again != "redriven":
        post(books, MUMBAI, numbered(1))
    post(books, MUMBAI, numbered(2))
    if again != "published again":
        assert reasons(post(books, None, numbered(1), topic=MOVED)) == []
    assert charged(books) == 2


def test_a_records_signature_is_computed_once_however_many_of_its_events_are_refused(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large record costs milliseconds to look at: one that nobody signed well must not cost that a thousand times."""
    computed: list[int] = []
    code = GatewayKey.code

    def counted(key: GatewayKey, value: bytes, partition: int) -> bytes:
        computed.append(len(value))
        return code(key, value, partition)

    signer = GatewayKey.derived(b"another command key", "mum-1", 1)
    value = packed(*(numbered(n, f"gateway/mum-1/{n % 7}") for n in range(1_000)))
    headers = signer.headers(value, 0)
    monkeypatch.setattr(GatewayKey, "code", counted)
    outcome = books.post([Record(REQUESTS, 0, 0, NOW_MS, value, headers)])
    assert reasons(outcome) == ["unsigned"] * 1_000
    assert computed == [len(value)]
