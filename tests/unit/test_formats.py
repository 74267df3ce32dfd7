"""Every kind of stored record says its format, is read without one as of the first, and is refused where it is newer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from pipeline import formats
from pipeline.accounts import verdicts
from pipeline.accounts.keys import decode_key, encode_key
from pipeline.accounts.model import Key
from pipeline.accounts.notices import encode_mail, encode_webhook
from pipeline.accounts.payments import Order, decode_order_notice, encode_order_notice
from pipeline.accounts.promos import Promo, decode_promo, encode_promo
from pipeline.accounts.verdicts import PROGRESS_KEY, Verdict, VerdictProgress, decode_record
from pipeline.catalog.stored import decode_rate, encode_rate
from pipeline.formats import NewerFormatError, StoredFormat, number_of
from pipeline.journal import FORMATS
from pipeline.mail import outbox, record
from pipeline.mail.outbox import Outbox, Waiting, again
from pipeline.mirror import progress
from pipeline.mirror.offsets import Run
from pipeline.mirror.progress import MirroredPlace, MirrorHead
from pipeline.session_book import decode_session, encode_session, ended_org
from pipeline.sink import ranges
from pipeline.sink.ranges import Intent, RangePart
from pipeline.token_book import TokenRecord, decode_token, encode_token
from pipeline.webhook import message, waiting
from pipeline.webhook.waiting import WebhookProgress
from tests.support.builders import rate
from tests.support.mails import MAIL
from tests.support.webhooks import MESSAGE

Decode = Callable[[bytes], Any]

KEY = Key("key_1", "n", "br-", "00", "standard", 5)
TOKEN = TokenRecord("tok_1", "org_1", "n", "brt-", "00", "n", "f", 5, 7)
ORDER = Order("order_1", "org_1", 10_000, 7)
JSON_RECORDS: dict[str, tuple[StoredFormat, bytes, Decode]] = {
    "rate": (
        formats.RATES,
        encode_rate(rate(request_nano=5))[1],
        decode_rate,
    ),
    "promo": (formats.PROMOS, encode_promo(Promo("TRY", 5, 7))[1], decode_promo),
    "key": (formats.KEYS, encode_key("org_1", KEY), decode_key),
    "verdict": (
        formats.VERDICTS,
        verdicts.encode(Verdict("org_1", 5, ())),
        lambda value: decode_record(b"org_1", value),
    ),
    "progress": (
        formats.VERDICTS,
        verdicts.encode(VerdictProgress(1, 5)),
        lambda value: decode_record(PROGRESS_KEY, value),
    ),
    "order": (formats.ORDERS, encode_order_notice(ORDER)[1], decode_order_notice),
    "session": (
        formats.SESSIONS,
        encode_session(ended_org("org_1", 5)),
        decode_session,
    ),
    "token": (formats.TOKENS, encode_token(TOKEN), decode_token),
    "mail": (formats.MAIL, encode_mail(MAIL), record.decode),
    "outbox": (
        formats.OUTBOX,
        outbox.encode(Outbox(5, (again(MAIL, 1, 1, 2, 3),))),
        outbox.decode,
    ),
    "webhook": (formats.WEBHOOKS, encode_webhook(MESSAGE), message.decode),
    "webhook progress": (
        formats.WEBHOOK_PROGRESS,
        waiting.encode_progress(WebhookProgress(5, "t")),
        waiting.decode_progress,
    ),
    "webhook that waits": (
        formats.WEBHOOK_PROGRESS,
        waiting.encode_waiting(waiting.again(MESSAGE, 1, 1, 2, 3)),
        waiting.decode_waiting,
    ),
    "mirror head": (
        formats.MIRROR,
        progress.encode(MirrorHead("kafka-1:9092", {})),
        progress.decode_head,
    ),
    "mirrored place": (
        formats.MIRROR,
        progress.encode(MirroredPlace(7, [Run(1, 2, 3)])),
        progress.decode_place,
    ),
    "range": (
        formats.RANGES,
        ranges.encode(Intent(0, 5, 7, (RangePart("requests", 1, 9, 9),))),
        ranges.decode,
    ),
}

each_record = pytest.mark.parametrize(("stored", "value", "decode"), JSON_RECORDS.values(), ids=JSON_RECORDS)


@each_record
def test_a_record_says_its_format(stored: StoredFormat, value: bytes, decode: Decode) -> None:
    assert value.startswith(b'{"format":%d,' % stored.number)
    assert decode(value) is not None


@each_record
def test_a_record_of_a_newer_format_is_refused_whatever_else_it_has(
    stored: StoredFormat, value: bytes, decode: Decode
) -> None:
    newer = stored.number + 1
    for record_ in (value.replace(b'"format":%d' % stored.number, b'"format":%d' % newer, 1),
                    b'{"all":"else","format":%d}' % newer):  # fmt: skip
        with pytest.raises(
            NewerFormatError, match=rf"{stored.name}: .* format {newer}, which a newer release wrote"
        ):
            decode(record_)


FIRST = {name: of for name, of in JSON_RECORDS.items() if of[0].number == 1}


@pytest.mark.parametrize(("value", "decode"), [of[1:] for of in FIRST.values()], ids=FIRST)
def test_a_record_that_names_no_format_is_of_the_first(value: bytes, decode: Decode) -> None:
    """Of rates, whose first format looks otherwise, tests/unit/catalog/test_stored.py holds it."""
    without = msgspec.json.decode(value)
    del without["format"]
    assert decode(msgspec.json.encode(without)) == decode(value)


def test_what_is_written_back_as_a_whole_has_nothing_that_it_does_not_know() -> None:
    for name in ("token", "outbox", "range"):
        _, value, decode = JSON_RECORDS[name]
        with pytest.raises(msgspec.ValidationError, match="unknown field `more`"):
            decode(msgspec.json.encode({**msgspec.json.decode(value), "more": 1}))


@pytest.mark.parametrize("value", [b"", b"[]", b'{"format":0}', b'{"format":"1"}', b'{"format":null}'])
def test_what_says_no_format_that_could_be_one_is_no_record(value: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        number_of(value)


class _Second(Struct, tag_field="format", tag=2):
    amount_paise: int


class _First(Struct):
    amount_rupees: int


def test_an_older_format_is_read_as_what_it_was() -> None:
    """Also one that would be read without an error as the newest, as every field of that has a default."""
    decode_first = msgspec.json.Decoder(_First).decode
    stored = StoredFormat("amounts", 2)
    decode = stored.decoder(_Second, {1: lambda value: _Second(decode_first(value).amount_rupees * 100)})
    assert decode(b'{"amount_rupees":5,"amount_paise":7}') == _Second(500)
    assert decode(b'{"amount_rupees":5,"format":1}') == _Second(500)
    assert decode(msgspec.json.encode(_Second(7))) == _Second(7)
    with pytest.raises(AssertionError, match="does not say its format"):
        StoredFormat("amounts", 3).decoder(_Second)


def test_each_kind_is_named_once_and_the_journal_knows_its_newest_format() -> None:
    assert len({stored.name for stored in formats.ALL}) == len(formats.ALL)
    assert FORMATS[-1] == formats.JOURNAL.number


@pytest.mark.parametrize("said", [b"", b'"format":1,'])
def test_ranges_and_outboxes_of_the_first_format_are_read(said: bytes) -> None:
    """They know no id of their topic; what is written from now on does."""
    part = b'{"kind":"requests","first":1,"last":9,"rows":9}'
    kept = ranges.decode(b"{" + said + b'"first_offset":0,"next_offset":5,"at_ms":7,"parts":[' + part + b"]}")
    assert kept == Intent(0, 5, 7, (RangePart("requests", 1, 9, 9),), None)
    assert outbox.decode(b"{" + said + b'"next_offset":5,"waiting":[]}') == Outbox(5, (), None)


OLD_MAIL = (
    b'"id":"alert:org_1:7","org":"org_1","to":"asha@acme.example","org_name":"Acme Labs","balance_nano":123456789000000,'
    b'"threshold_nano":200000000000000,"at_ms":1781288999123,"kind":"low_balance"}'
)


@pytest.mark.parametrize("said", [b"", b'"format":1,'])
def test_mails_until_format_2_are_read_by_themselves_and_where_they_wait(said: bytes) -> None:
    assert record.decode(b"{" + said + OLD_MAIL) == MAIL
    waiting = b'{"mail":{' + said + OLD_MAIL + b',"came_ms":1,"tries":2,"due_ms":3}'
    kept = b'{"format":2,"next_offset":5,"waiting":[' + waiting + b'],"topic_id":"t"}'
    assert outbox.decode(kept) == Outbox(5, (Waiting(MAIL, 1, 2, 3),), "t")
