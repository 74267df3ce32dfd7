"""Handing a message to a real mail server: what each answer means."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from aiosmtpd.smtp import AuthResult

from pipeline.mail.outbox import Delivery
from pipeline.mail.render import MailSender, render
from pipeline.mail.smtp import MailServer, SmtpUrlError, send
from tests.support.mail import inbox
from tests.support.mails import MAIL, SENDER


async def _send(server: MailServer, to: str) -> tuple[Delivery, str]:
    return await send(server, render(MAIL, SENDER), SENDER.address, to)


async def test_a_message_arrives_as_it_was_written() -> None:
    async with inbox() as box:
        outcome, _ = await _send(MailServer("127.0.0.1", box.port, tls=False), "asha@acme.example")
    assert outcome is Delivery.SENT
    [message] = box.taken
    assert message["Subject"] == "Low balance: Rs 1,23,456.78 left, Acme Labs"
    html = message.get_body(("html",))
    assert html is not None and "₹1,23,456.78" in html.get_content()


@pytest.mark.parametrize(
    ("name", "outcome", "taken"),
    [
        ("later1", Delivery.NOT_TAKEN, 0),
        ("never", Delivery.REFUSED, 0),
        ("full", Delivery.REFUSED, 0),
        ("cut", Delivery.UNCLEAR, 1),
    ],
)
async def test_what_a_failure_means_and_that_it_names_nobody(
    name: str, outcome: Delivery, taken: int
) -> None:
    async with inbox() as box:
        got, word = await _send(MailServer("127.0.0.1", box.port, tls=False), f"{name}@acme.example")
    assert (got, len(box.taken)) == (outcome, taken)
    assert "@" not in word


async def test_nobody_there_and_nobody_answering_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = await asyncio.start_server(lambda _reader, _writer: asyncio.sleep(60), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    monkeypatch.setattr("pipeline.mail.smtp.LIMIT_S", 0.4)
    assert (await _send(MailServer("127.0.0.1", port, tls=False), "a@b.example"))[0] is Delivery.NOT_TAKEN
    silent.close()
    assert (await _send(MailServer("127.0.0.1", 1, tls=False), "a@b.example"))[0] is Delivery.NOT_TAKEN


def _in_clear(url: str) -> MailServer:
    return MailServer.parse(url, password_in_clear=True)


async def test_a_password_stays_here_where_the_server_offers_no_tls() -> None:
    passwords: list[object] = []

    def check(
        _server: object, _session: object, _envelope: object, _mechanism: str, data: object
    ) -> AuthResult:
        passwords.append(data)
        return AuthResult(success=True)

    async with inbox(authenticator=check, auth_required=True, auth_require_tls=False) as box:
        url = f"smtp://user:password@127.0.0.1:{box.port}"
        outcome, word = await _send(MailServer.parse(url), "a@b.example")
        assert (outcome, word, passwords) == (Delivery.NOT_TAKEN, "SMTPException", [])
        assert (await _send(_in_clear(url), "a@b.example"))[0] is Delivery.SENT
    assert len(passwords) == 1


async def test_a_login_that_is_refused_may_be_mended_so_it_is_not_taken() -> None:
    def check(
        _server: object, _session: object, _envelope: object, _mechanism: str, data: object
    ) -> AuthResult:
        return AuthResult(success=getattr(data, "password", b"") == b"p@ss/word")

    async with inbox(authenticator=check, auth_required=True, auth_require_tls=False) as box:
        right = _in_clear(f"smtp://us%40er:p%40ss%2Fword@127.0.0.1:{box.port}")
        wrong = _in_clear(f"smtp://us%40er:wrong@127.0.0.1:{box.port}")
        assert (await _send(wrong, "a@b.example"))[0] is Delivery.NOT_TAKEN
        assert (await _send(right, "a@b.example"))[0] is Delivery.SENT
    assert box.recipients == ["a@b.example"]


async def test_a_server_with_a_certificate_nobody_vouches_for_gets_nothing(
    certificate: ssl.SSLContext,
) -> None:
    async with inbox(tls_context=certificate) as box:
        outcome, _ = await _send(MailServer.parse(f"smtp://u:p@127.0.0.1:{box.port}"), "a@b.example")
    assert outcome is Delivery.NOT_TAKEN
    assert not box.tries


@pytest.fixture
def certificate(tmp_path: Path) -> ssl.SSLContext:
    """A context with a certificate of its own making."""
    import subprocess

    where = tmp_path / "pair.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1",
         "-keyout", where, "-out", tmp_path / "certificate.pem"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", where)
    return context


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail.example", MailServer("mail.example", 587, tls=False)),
        ("smtps://mail.example", MailServer("mail.example", 465, tls=True)),
        ("smtp://u:p@mail.example:25", MailServer("mail.example", 25, tls=False, user="u", password="p")),
    ],
)
def test_a_url_names_a_server(url: str, server: MailServer) -> None:
    assert MailServer.parse(url) == server


@pytest.mark.parametrize(
    "url", ["", "http://x", "smtp://", "smtp://u:secret@:25", "smtp://h:port", "smtp://h/path"]
)
def test_a_url_that_names_none_is_an_error_that_does_not_repeat_it(url: str) -> None:
    with pytest.raises(SmtpUrlError) as refused:
        MailServer.parse(url)
    assert "secret" not in str(refused.value)


def test_a_server_does_not_print_its_password() -> None:
    assert "secret" not in repr(MailServer.parse("smtp://us:secret@h:25"))
    assert repr(MailSender.parse("a@b.example")).count("a@b.example") == 1
