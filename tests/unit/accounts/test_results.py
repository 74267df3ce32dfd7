"""What commands are answered: one type each, readable for ever."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from msgspec import Raw, Struct, structs

from pipeline.accounts.commands import (
    AccountCommand,
    AnyAccountCommand,
    AnyCommand,
    Barrier,
    Capture,
    ChangeKey,
    CheckPromo,
    Command,
    CommandRefusal,
    CreateKey,
    Credit,
    Fail,
    Find,
    NoteStray,
    OpenOrder,
    PrepareOrder,
    Reply,
    SetAddress,
    SetNotices,
    SetThreshold,
    SetWebhook,
    SignUp,
    TakeDispute,
    TakeRefund,
    TellStatements,
    TellUnusualHour,
    View,
    answer_of,
    remembered_result,
    result_of,
)
from pipeline.accounts.model import Address
from pipeline.accounts.payments import Order, Payment
from pipeline.accounts.results import (
    AccountView,
    AddressSet,
    AddressView,
    BarrierReached,
    CreditPosted,
    DisputeTaken,
    Found,
    KeyChanged,
    KeyCreated,
    KeyView,
    NoticesSet,
    NoticeTold,
    OrderOpened,
    OrderPrepared,
    PaymentTaken,
    PromoWorth,
    RefundTaken,
    Result,
    SignedUp,
    StatementsTold,
    StrayNoted,
    ThresholdSet,
    WebhookSet,
    opened,
    view_of_address,
    view_of_order,
    view_of_payment,
)
from pipeline.outcomes import RefusalCode
from tests.support.commands import COMMANDS

ADDRESS = Address("n", "l", "m", "c", "s", "560001", "29ABCDE1234F1Z5")
PAYMENT = Payment("p", "o1", "o", "captured", 5, "INR", "upi", "e", "c", 7, "payer", ADDRESS, 2, "problem")
ORDER = Order("o1", "o", 5, 7, "P", 3, "p")
KEY = KeyView("k", "n", "br-abc", "trial", 7, None, 5, None, 9, False, 2, 11, 3)

REMEMBERED: list[tuple[type[Command[Any]], bytes, Struct]] = [
    (SignUp, b'{"org":"o","signed_up":true}', SignedUp("o", signed_up=True)),
    (CreateKey, b'{"key_id":"k","version":1,"nonce":"n"}', KeyCreated("k", 1, "n")),
    (ChangeKey, b'{"key_id":"k","version":2}', KeyChanged("k", 2)),
    (Credit, b'{"org":"o","balance_nano":-5}', CreditPosted("o", -5)),
    (
        SetAddress,
        b'{"address":{"name":"n","line1":"l","line2":null,"city":"c","state":"s","pin":"560001","gstin":null}}',
        AddressSet(AddressView("n", "l", None, "c", "s", "560001", None)),
    ),
    (SetThreshold, b'{"threshold_nano":null}', ThresholdSet(None)),
    (PrepareOrder, b'{"nonce":"n","promo_code":null,"bonus_nano":0}', OrderPrepared("n", None, 0)),
    (
        OpenOrder,
        (
            b'{"order_id":"o1","org":"o","amount_paise":50000,"created_ms":7,"promo_code":"P","bonus_nano":5,'
            b'"paid_by":null,"currency":"INR"}'
        ),
        OrderOpened("o1", "o", 50_000, 7, "P", 5, None, "INR"),
    ),
    (
        Capture,
        b'{"status":"captured","credited":true,"balance_nano":9}',
        PaymentTaken("captured", 9, credited=True),
    ),
    (Capture, b'{"status":"mismatched","balance_nano":9}', PaymentTaken("mismatched", 9)),
    (
        Capture,
        b'{"status":"captured","credited":false,"balance_nano":9}',
        PaymentTaken("captured", 9, credited=False),
    ),
    (Fail, b'{"status":"failed"}', PaymentTaken("failed")),
    (TakeRefund, b'{"status":"debited","balance_nano":-1}', RefundTaken("debited", -1)),
]
"""Answers as earlier releases wrote them into the profiles of accounts."""


def _leaves(kind: type[Any]) -> set[type[Any]]:
    below = kind.__subclasses__()
    return set().union(*map(_leaves, below)) if below else {kind}


def test_every_command_is_in_the_closed_types() -> None:
    assert _leaves(Command) == set(get_args(AnyCommand))
    assert _leaves(AccountCommand) == set(get_args(AnyAccountCommand))
    assert {type(command) for command in COMMANDS} == set(get_args(AnyCommand)), "the tests' list lacks some"


def test_every_command_to_an_account_names_one_of_the_results() -> None:
    named = {get_args(kind.__orig_bases__[0])[0] for kind in get_args(AnyAccountCommand)}
    assert named == set(get_args(Result))


@pytest.mark.parametrize(("kind", "stored", "result"), REMEMBERED, ids=lambda value: str(value)[:40])
def test_an_answer_that_was_remembered_before_is_still_read(
    kind: type[Command[Any]], stored: bytes, result: Struct
) -> None:
    assert result_of(kind, stored) == result
    assert msgspec.json.decode(msgspec.json.encode(result)) == msgspec.json.decode(stored)


@pytest.mark.parametrize(
    ("kind", "result"),
    [
        *((kind, result) for kind, _, result in REMEMBERED),
        (SetNotices, NoticesSet(mail=False, webhook_host="hooks.acme.example")),
        (SetWebhook, WebhookSet(None, "")),
        (TellStatements, StatementsTold(100, has_more=True)),
        (TellUnusualHour, NoticeTold(told=False)),
        (SetWebhook, WebhookSet("https://hooks.acme.example/x", "n")),
        (CheckPromo, PromoWorth("P", 5)),
        (Find, Found(5, None, Raw(b"null"), None)),
        (Find, Found(5, view_of_order(ORDER), Raw(b'{"key_id":"k","version":2}'), view_of_payment(PAYMENT))),
        (View, AccountView("o", "n", "e", True, 5, 7, None, None, [])),
        (View, AccountView("o", "n", "e", True, -5, 7, 3, view_of_address(ADDRESS), [KEY])),
        (NoteStray, StrayNoted(noted=True)),
        (TakeDispute, DisputeTaken("lost", -5)),
        (Barrier, BarrierReached(3)),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_result_comes_back_as_it_was(kind: type[Command[Any]], result: Struct) -> None:
    assert result_of(kind, msgspec.json.encode(result)) == result


def test_what_a_command_was_answered_is_found_as_its_own_type() -> None:
    found = Found(5, None, Raw(b'{"key_id":"k","version":2}'), None)
    assert remembered_result(ChangeKey, found) == KeyChanged("k", 2)
    assert remembered_result(ChangeKey, Found(5, None, Raw(b"null"), None)) is None
    with pytest.raises(msgspec.ValidationError):
        remembered_result(Credit, found)


def test_a_reply_is_a_result_or_a_refusal() -> None:
    refusal = CommandRefusal(RefusalCode.NOT_FOUND, "no such key")
    assert answer_of(ChangeKey, Reply("1", refusal=refusal)) is refusal
    assert answer_of(ChangeKey, Reply("1", result=Raw(b'{"key_id":"k","version":2}'))) == KeyChanged("k", 2)


def test_an_answer_of_another_type_is_an_error_and_a_newer_one_is_read() -> None:
    with pytest.raises(msgspec.ValidationError):
        result_of(Credit, b'{"status":"failed"}')
    assert result_of(Credit, b'{"org":"o","balance_nano":1,"more":[]}') == CreditPosted("o", 1)


def test_the_views_have_every_field_of_what_they_show() -> None:
    shown = structs.asdict(view_of_payment(PAYMENT))
    assert structs.asdict(shown.pop("address")) == structs.asdict(ADDRESS)
    assert shown == {k: v for k, v in structs.asdict(PAYMENT).items() if k != "address"}
    assert view_of_payment(structs.replace(PAYMENT, address=None)).address is None
    assert structs.asdict(view_of_order(ORDER)) == structs.asdict(ORDER)
    assert structs.asdict(opened(ORDER)) == {**structs.asdict(ORDER), "currency": "INR"}
