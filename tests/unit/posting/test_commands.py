"""Commands carried out: answered once, booked once, and never a crash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from msgspec import structs

from pipeline import ist
from pipeline.accounts.authentication import CommandKeys
from pipeline.accounts.commands import (
    Barrier,
    ChangeKey,
    CreateKey,
    Credit,
    Reply,
    SetNotices,
    SignUp,
    TellStatements,
    View,
    decode_reply,
    encode,
)
from pipeline.journal import decode_rows
from pipeline.mail.record import decode as decode_mail
from pipeline.partitioning import partition_of
from pipeline.posting.commands import (
    TOLD_AT_ONCE,
    catalog_offset_needed,
    gateways_offset_needed,
    post_commands,
    promos_offset_needed,
    read_commands,
)
from pipeline.posting.unit import TracedCommand, Unit, UnitOutput
from pipeline.request_id import HEADER
from pipeline.topics import BILLING, MOVED
from tests.support.builders import (
    COMMAND_KEYS,
    COST_NANO,
    NOW_MS,
    Books,
    Record,
    command_record,
    event,
    everything,
    packed,
    reasons,
)

SIGN_UP = SignUp(id="1", org="org_1", name="A", email="a@example.in")


def replies(outcome: UnitOutput) -> list[Reply]:
    """Return the replies of an outcome."""
    return [decode_reply(value) for value in outcome.replies]


def results(outcome: UnitOutput) -> list[Any]:
    """Return the results of the replies, or the code of a refusal."""
    return [r.refusal.code if r.refusal else msgspec.json.decode(r.result) for r in replies(outcome)]


def ledger(outcome: UnitOutput) -> list[dict[str, Any]]:
    """Return the ledger rows of an outcome by column."""
    return [structs.asdict(row) for record in outcome.journal for row in decode_rows(record)]


def test_a_ledger_row_tells_the_balance_after_it_request_debits_included() -> None:
    books = Books()
    books.publish(packed(event()))
    outcome = books.send(SIGN_UP, Credit(id="2", org="org_1", amount_nano=-7, reason="a correction"))
    assert [
        (r["id"], r["kind"], r["amount_nano"], r["balance_after_nano"], r["note"]) for r in ledger(outcome)
    ] == [
        (2 * 1024, "promo", 100 * 10**9, 100 * 10**9 - COST_NANO, "signup credit"),
        (3 * 1024, "correction", -7, 100 * 10**9 - COST_NANO - 7, "a correction"),
    ]
    assert books.state.account("org_1").spending.entry_id == 3 * 1024


@pytest.mark.parametrize("restored", [False, True])
def test_the_same_command_again_has_the_same_answer_and_no_effect(restored: bool) -> None:
    books = Books()
    first = books.send(SIGN_UP)
    if restored:
        books.state = books.restore()
    again = books.send(SIGN_UP, SIGN_UP)
    assert results(again) == results(first) * 2 == [{"org": "org_1", "signed_up": True}] * 2
    assert ledger(again) == []
    assert books.balance_nano() == 100 * 10**9


def test_another_command_with_the_same_id_is_refused() -> None:
    books = Books()
    books.send(msgspec.structs.replace(SIGN_UP, fingerprint="one"))
    outcome = books.send(Credit(id="1", org="org_1", amount_nano=5, reason="r", fingerprint="ünother"))
    assert results(outcome) == ["invalid_request"]
    assert books.balance_nano() == 100 * 10**9


def test_a_view_shows_what_the_commands_before_it_did() -> None:
    books = Books()
    [_, seen] = results(books.send(SIGN_UP, View(id="v", org="org_1")))
    assert (seen["balance_nano"], seen["signed_up"]) == (100 * 10**9, True)


def test_looking_at_an_org_does_not_open_an_account() -> None:
    books = Books()
    outcome = books.send(View(id="v", org="nobody"), Credit(id="c", org="nobody", amount_nano=0, reason="r"))
    assert results(outcome)[1] == "invalid_request"
    assert len(books.restore()) == len(books.state) == 0
    assert ledger(outcome) == []


def test_a_barrier_is_answered_by_the_partition_it_is_on() -> None:
    books = Books(partition=2, partitions=4)
    outcome = books.send(Barrier("b", 7))
    assert results(outcome) == [{"partition": 2, "moved_offset": 0}]
    books.publish(b"[]", b"[]", topic=MOVED)
    assert results(books.send(Barrier("c"))) == [{"partition": 2, "moved_offset": 2}]
    values = [*map(encode, (Barrier("b", 7), View("v", "org"), Barrier("c", 3))), b"nonsense", None]
    records = [command_record(value) for value in values]
    assert catalog_offset_needed(read_commands(Unit(books.state, books.rates), records, COMMAND_KEYS)) == 7
    assert catalog_offset_needed([]) == 0


def test_the_orgs_of_a_partition_are_told_of_a_statement_once_each_some_at_a_time() -> None:
    """Servers ask again after each start, and several at once, and the owner is another after each answer."""
    books, month = Books(), ist.month_of(NOW_MS)
    orgs = [f"org_{n}" for n in range(2 * TOLD_AT_ONCE + 50)]
    books.send(*(SignUp(f"s{org}", org, "A", "a@example.in") for org in orgs))
    books.send(SetNotices("off", orgs[0], {"statement_ready": False}))
    end_ms = ist.month_end_ms(month)
    books.send(SignUp("late", "org_late", "A", "a@example.in"), at_ms=end_ms)
    told: list[str] = []
    answers = []
    for n in range(4):
        outcome = books.send(TellStatements(f"t{n}", month), at_ms=end_ms + 1)
        answers += results(outcome)
        told += [decode_mail(value).id for _, value in outcome.mail]
        books.state = books.rebuilt() if n % 2 else books.restore()
    assert [(answer["orgs"], answer["has_more"]) for answer in answers] == [
        (TOLD_AT_ONCE, True),
        (TOLD_AT_ONCE, True),
        (50, False),
        (0, False),
    ]
    assert sorted(told) == sorted(f"statement_ready:{org}:{month}" for org in orgs[1:])
    # Whoever asks when all are told costs a reply, and changes no account.
    outcome = books.send(TellStatements("again", month), at_ms=end_ms + 2)
    assert [key for key, _ in outcome.state] == [key for key, _ in books.send(Barrier("b")).state]


def test_of_a_month_that_is_not_over_or_long_over_nobody_is_told() -> None:
    books, month = Books(), ist.month_of(NOW_MS)
    books.send(SIGN_UP)
    end_ms = ist.month_end_ms(month)
    not_yet = books.send(TellStatements("1", month), at_ms=end_ms - 1)
    too_late = books.send(TellStatements("2", month), at_ms=ist.month_end_ms(ist.next_month(month)))
    assert results(not_yet) == [{"orgs": 0, "has_more": True}]
    assert results(too_late) == [{"orgs": 0, "has_more": False}]
    assert not_yet.mail == too_late.mail == []


def test_a_command_of_whoever_has_no_key_is_a_dead_letter_and_changes_nothing() -> None:
    """The third was signed for another partition: written again here, it is nobody's. The last has a header without a value."""
    books = Books()
    credit = encode(Credit(id="2", org="org_1", amount_nano=7 * 10**9, reason="a gift"))
    elsewhere = COMMAND_KEYS.headers(credit, 1, NOW_MS)
    forged = CommandKeys.parse("another-key-of-32-characters-....").headers(credit, 0, NOW_MS)
    headers: list[Sequence[tuple[str, Any]]] = [(), forged, elsewhere, [("mac", None)]]
    outcome = books.post([Record(BILLING, 0, n, NOW_MS, credit, each) for n, each in enumerate(headers)])
    assert reasons(outcome) == ["unauthenticated"] * 4
    assert [letter.value for letter in outcome.dead_letters] == [credit] * 4
    assert (outcome.replies, outcome.journal, books.balance_nano()) == ([], [], 0)
    books.next_offset[BILLING] = 4
    books.send(credit)
    assert books.balance_nano() == 7 * 10**9


def test_a_barrier_of_whoever_has_no_key_keeps_nobody_waiting() -> None:
    forged = Record(BILLING, value=encode(Barrier("b", 2**60, 2**60, 2**60)))
    records = [forged, command_record(encode(Barrier("c", 3, 4, 5)))]
    books = Books()
    commands = read_commands(Unit(books.state, books.rates), records, COMMAND_KEYS)
    assert catalog_offset_needed(commands) == 3
    assert promos_offset_needed(commands) == 4
    assert gateways_offset_needed(commands) == 5


def test_a_command_on_another_orgs_partition_is_a_dead_letter() -> None:
    org = next(str(n) for n in range(99) if partition_of(str(n), 4) != 0)
    outcome = Books(partition=0, partitions=4).send(View(id="v", org=org))
    assert (reasons(outcome), outcome.replies) == (["invalid"], [])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "malformed"),
        (b"", "malformed"),
        (b"\xff", "malformed"),
        (b'{"kind":"credit"}', "malformed"),
        (b'{"kind":"view","id":"1","org":"\\u0000progress"}', "invalid"),
        (b'{"kind":"view","id":"1","org":"\\ud800"}', "malformed"),
        (b"[" * 1_000_000, "malformed"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_command_is_a_dead_letter_with_its_bytes(value: bytes | None, reason: str) -> None:
    books = Books()
    outcome = books.publish(value, encode(View(id="v", org="org_1")), topic="metering.billing")
    assert [(letter.reason, letter.value) for letter in outcome.dead_letters] == [(reason, value or b"")]
    assert len(outcome.replies) == 1
    assert outcome.counts["commands"] == 2


INT64 = 2**63 - 1
LONG = "\U0001f600" * 256
LONG_NAME = LONG[:60]


@pytest.mark.parametrize("number", [INT64, -INT64 - 1, 0, -1])
def test_absurd_numbers_and_huge_texts_leave_a_state_that_comes_back(number: int) -> None:
    books = Books()
    books.send(
        SignUp(id=LONG, org="org_1", name=LONG_NAME, email=LONG, fingerprint=LONG),
        CreateKey(
            id="a",
            org="org_1",
            key_id="k",
            name=LONG_NAME,
            prefix=LONG,
            hash=LONG,
            nonce=LONG,
            fingerprint=LONG,
        ),
        CreateKey(id="b", org="org_1", key_id="l", name="l", prefix="", hash="", expires_ms=number),
        ChangeKey(id="c", org="org_1", key_id="k", budget_nano=number),
        ChangeKey(id="d", org="org_1", key_id="k", daily_limit=number),
        ChangeKey(id="e", org="org_1", key_id="k", revoked=True),
        ChangeKey(id="f", org="org_1", key_id="k", rpm_limit=number),
        ChangeKey(id="g", org="org_1", key_id="k", expires_ms=number),
        Credit(id="h", org="org_1", amount_nano=number, reason=LONG),
    )
    assert everything(books.restore()) == everything(books.state)
    assert books.balance_nano() in (100 * 10**9, 100 * 10**9 - 1)


def test_a_thousand_commands_leave_a_profile_of_bounded_size() -> None:
    books = Books()
    for n in range(1_000):
        command = CreateKey(
            id=f"{n}{LONG}"[:256],
            org="org_1",
            key_id=f"k{n}",
            name=LONG_NAME,
            prefix=LONG,
            hash=LONG,
            nonce=LONG,
            fingerprint=LONG,
        )
        revoke = ChangeKey(id=f"r{n}", org="org_1", key_id=f"k{n}", revoked=True)
        books.send(command, revoke, at_ms=NOW_MS + n)
    assert len(books.topic[b"porg_1"]) < 1_000_000


def test_a_command_that_came_with_a_requests_id_is_told_under_it() -> None:
    """What anybody could put into the header, as the code of a command does not cover it, is looked at first."""
    books = Books()
    commands = (SIGN_UP, View(id="2", org="org_1"), ChangeKey(id="3", org="org_1", key_id="none"), SIGN_UP)
    ids = (b"request-77", b"request-78", b"request-79", b"two\nlines")
    records = []
    for offset, (command, given) in enumerate(zip(commands, ids, strict=True)):
        record = command_record(encode(command), offset=offset)
        records.append(replace(record, headers=[*record.headers, (HEADER, given)]))
    unit = Unit(books.state, books.rates)
    post_commands(unit, read_commands(unit, records, COMMAND_KEYS))
    assert unit.traced == [
        TracedCommand("request-77", "sign_up", only_asks=False, refusal=None),
        TracedCommand("request-78", "view", only_asks=True, refusal=None),
        TracedCommand("request-79", "change_key", only_asks=False, refusal="not_found"),
    ]
    assert len(unit.replies) == 4
