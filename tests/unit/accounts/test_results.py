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
    Capture,
    ChangeKey,
    Command,
    CommandRefusal,
    CreateKey,
    Credit,
    Fail,
    OpenOrder,
    PrepareOrder,
    Reply,
    SetAddress,
    SetThreshold,
    SignUp,
    TakeRefund,
    answer_of,
    result_of,
)
from pipeline.accounts.model import Address
from pipeline.accounts.payments import Order, Payment
from pipeline.accounts.results import (
    AddressSet,
    AddressView,
    CaptureTaken,
    CreditPosted,
    FailureTaken,
    KeyChanged,
    KeyCreated,
    OrderOpened,
    OrderPrepared,
    RefundTaken,
    Result,
    SignedUp,
    ThresholdSet,
    opened,
    view_of_order,
    view_of_payment,
)
from pipeline.outcomes import RefusalCode
from tests.support.commands import COMMANDS

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
        CaptureTaken("captured", 9, credited=True),
    ),
    (Capture, b'{"status":"mismatched","balance_nano":9}', CaptureTaken("mismatched", 9)),
    (Fail, b'{"status":"failed"}', FailureTaken("failed")),
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
    assert msgspec.json.decode(msgspec.json.encode(result)).items() >= msgspec.json.decode(stored).items()


def test_a_reply_is_a_result_or_a_refusal() -> None:
    refusal = CommandRefusal(RefusalCode.NOT_FOUND, "no such key")
    assert answer_of(ChangeKey, Reply("1", refusal=refusal)) is refusal
    assert answer_of(ChangeKey, Reply("1", result=Raw(b'{"key_id":"k","version":2}'))) == KeyChanged("k", 2)


def test_an_answer_of_another_type_is_an_error_and_a_newer_one_is_read() -> None:
    with pytest.raises(msgspec.ValidationError):
        result_of(Credit, b'{"status":"failed"}')
    assert result_of(Credit, b'{"org":"o","balance_nano":1,"more":[]}') == CreditPosted("o", 1)


def test_the_views_have_every_field_of_what_they_show() -> None:
    address = Address("n", "l", "m", "c", "s", "560001", "29ABCDE1234F1Z5")
    payment = Payment(
        "p", "o1", "o", "captured", 5, "INR", "upi", "e", "c", 7, "payer", address, 2, "problem"
    )
    order = Order("o1", "o", 5, 7, "P", 3, "p")
    shown = structs.asdict(view_of_payment(payment))
    assert structs.asdict(shown.pop("address")) == structs.asdict(address)
    assert shown == {k: v for k, v in structs.asdict(payment).items() if k != "address"}
    assert view_of_payment(structs.replace(payment, address=None)).address is None
    assert structs.asdict(view_of_order(order)) == structs.asdict(order)
    assert structs.asdict(opened(order)) == {**structs.asdict(order), "currency": "INR"}
