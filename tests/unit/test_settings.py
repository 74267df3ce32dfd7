"""The settings of mail and pages: what they accept, and that a bad one is told without its secret."""

from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from pipeline.mail.render import MailSender
from pipeline.mail.smtp import MailServer
from pipeline.settings import Settings


@pytest.mark.parametrize("url", ["smtp://h", "smtps://h:465", "smtp://u:p%40@mail.example:25"])
def test_a_mail_servers_url_is_accepted_and_names_a_server(url: str) -> None:
    given = Settings(smtp_url=SecretStr(url)).smtp_url
    assert given is not None and MailServer.parse(given.get_secret_value()).host in ("h", "mail.example")


@pytest.mark.parametrize("url", ["", "hush", "http://u:hush@h", "smtp://", "smtp://u:hush@", "smtp://:25"])
def test_what_names_no_mail_server_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(smtp_url=SecretStr(url))
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("text", ["b@router.example", "BharatRouter <b@router.example>"])
def test_a_sender_is_accepted_and_can_be_written_from(text: str) -> None:
    assert MailSender.parse(Settings(mail_from=text).mail_from).address == "b@router.example"


@pytest.mark.parametrize(
    "text", ["", "nobody", "a@b, c@d", "X <a@b>\r\nBcc: c@d", "X\n <a@b>", "<a@b> <c@d>", "X <a @b>"]
)
def test_what_is_no_sender_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Settings(mail_from=text)


@pytest.mark.parametrize(
    "url", ["https://checkout.razorpay.com/v1/checkout.js", "http://127.0.0.1:9000/c.js"]
)
def test_an_address_of_checkout_is_accepted(url: str) -> None:
    assert Settings(checkout_url=url, public_url=url).checkout_url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "javascript:alert(1)",
        "//evil",
        "https://a; script-src *",
        'https://a/"x',
        "https://a b",
        "https://*",
    ],
)
def test_what_could_change_a_policy_or_markup_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        Settings(checkout_url=url)
    with pytest.raises(ValidationError):
        Settings(public_url=url)
