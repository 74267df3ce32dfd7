"""What a mail reads like, and that nothing hostile gets out of its place."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser

import msgspec
import pytest

from pipeline.accounts.notices import BudgetReached, LowBalance, Mail
from pipeline.mail.render import AddressError, MailSender, one_line, plain_address, render
from tests.support.mails import MAIL, SENDER


def _read_back(message: EmailMessage) -> EmailMessage:
    return message_from_bytes(message.as_bytes(policy=policy.SMTP), policy=policy.default)


def _bodies(message: EmailMessage) -> tuple[str, str]:
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None and html is not None
    return plain.get_content(), html.get_content()


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self.tags.add(tag)


def test_headers_and_both_bodies_tell_the_amounts() -> None:
    message = _read_back(render(MAIL, SENDER))
    assert message["Subject"] == "Low balance: Rs 1,23,456.78 left, Acme Labs"
    assert message["To"] == "asha@acme.example"
    assert message["From"] == "BharatRouter <billing@router.example>"
    assert message["Date"] == "Fri, 12 Jun 2026 23:59:59 +0530"
    for body in _bodies(message):
        assert "₹1,23,456.78" in body and "₹2,00,000.00" in body
        assert "12 Jun 2026, 23:59 IST" in body
        assert "https://router.example/billing" in body


def test_the_message_id_is_the_same_for_every_attempt_and_another_for_another_mail() -> None:
    first, again = render(MAIL, SENDER), render(MAIL, SENDER)
    other = render(msgspec.structs.replace(MAIL, id="alert:org_1:8"), SENDER)
    assert first["Message-ID"] == again["Message-ID"] != other["Message-ID"]
    assert first["Message-ID"].endswith("@router.example>")


def test_an_empty_balance_says_that_requests_are_refused() -> None:
    message = _read_back(render(msgspec.structs.replace(MAIL, about=LowBalance(-6_100_000, 1)), SENDER))
    assert message["Subject"] == "Balance used up, requests are refused: -Rs 0.01 left, Acme Labs"
    for body in _bodies(message):
        assert "(org_1)" in body and "used up" in body and "https://router.example/billing" in body
        assert "are refused until you top up" in body and "Requests go on" not in body


def _of_budget(percent: int, key_name: str = "ci") -> Mail:
    about = BudgetReached("key_1", key_name, 202606, percent, 500 * 10**9, percent * 5 * 10**9)
    return msgspec.structs.replace(MAIL, id="b", about=about)


def test_a_budget_that_is_nearly_spent_says_which_and_how_much() -> None:
    message = _read_back(render(_of_budget(80), SENDER))
    assert message["Subject"] == "80 % of a budget used: Rs 500.00, key ci, Acme Labs"
    for body in _bodies(message):
        assert "₹400.00" in body and "₹500.00" in body and "June 2026" in body and "key_1" in body
        assert "Requests go on" in body and "01 Jul 2026, 00:00 IST" in body
        assert "https://router.example/keys" in body and "on the page of notices" in body


def test_a_budget_that_is_spent_says_that_requests_are_refused_until_when() -> None:
    message = _read_back(render(_of_budget(100), SENDER))
    assert message["Subject"] == "Budget used up, requests refused: Rs 500.00, key ci, Acme Labs"
    for body in _bodies(message):
        assert "are refused until 01 Jul 2026, 00:00 IST" in body and "Requests go on" not in body


def test_a_hostile_name_of_a_key_stays_text() -> None:
    message = _read_back(render(_of_budget(80, "<script>x</script>\r\nBcc: a@b.example"), SENDER))
    assert message["Bcc"] is None
    tags = _Tags()
    tags.feed(_bodies(message)[1])
    assert "script" not in tags.tags


def test_without_a_public_address_there_is_no_link() -> None:
    plain, html = _bodies(render(MAIL, MailSender("B", "b@router.example")))
    assert "http" not in plain and "href" not in html


@pytest.mark.parametrize(
    "name",
    [
        "Acme\r\nBcc: victim@elsewhere.example",
        "Acme\nSubject: other",
        "Acme\x00\x0b\x85\u2028X",
        "<script>alert(1)</script>",
        "{{ 7 * 7 }}",
        "\u202eevil",
        "\ud800 lone",
        "=?utf-8?q?=0ABcc:_a@b?=",
        "अश" * 200,
    ],
)
def test_a_hostile_name_stays_text(name: str) -> None:
    message = _read_back(render(msgspec.structs.replace(MAIL, org_name=name), SENDER))
    assert set(message.keys()) == {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress",
        "MIME-Version", "Content-Type",
    }  # fmt: skip
    assert message["Subject"].startswith("Low balance: Rs 1,23,456.78 left")
    plain, html = _bodies(message)
    tags = _Tags()
    tags.feed(html)
    assert "script" not in tags.tags
    assert "49" not in plain
    assert plain.count("\n") == _bodies(render(MAIL, SENDER))[0].count("\n")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nobody",
        "a@b.example, c@d.example",
        "a@b.example\r\nBcc: c@d.example",
        "Name <a@b.example>",
        "<a@b.example>",
        "a b@c.example",
        "a@b.example\n",
        "@b.example",
        "a@",
        "अ@b.example",
        f"{'a' * 300}@b.example",
        "a@b.example (comment)",
    ],
)
def test_what_is_not_exactly_one_address_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(AddressError) as refused:
        plain_address(address)
    assert not address or address not in str(refused.value)
    with pytest.raises(AddressError):
        render(msgspec.structs.replace(MAIL, to=address), SENDER)


def test_the_sender_is_a_name_and_an_address_or_an_address_alone() -> None:
    assert MailSender.parse("BharatRouter <b@router.example>") == MailSender(
        "BharatRouter", "b@router.example"
    )
    assert MailSender.parse("b@router.example") == MailSender("", "b@router.example")
    with pytest.raises(AddressError):
        MailSender.parse("nobody")


def test_one_line_is_short_and_has_no_line_in_it() -> None:
    assert one_line(" a\r\n\tb  c ") == "a b c"
    assert len(one_line("x" * 1000)) == 80
