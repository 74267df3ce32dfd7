"""The settings: what they accept, that a bad one is told without its secret, and who sees which."""

from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from pipeline.mail.render import MailSender
from pipeline.mail.smtp import MailServer
from pipeline.settings import (
    CommonSettings,
    NotarySettings,
    Settings,
    SinkSettings,
    WorkerSettings,
    environment_of,
    variable,
)


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
    assert Settings(checkout_url=url, public_url=url, gateway_url=url).checkout_url == url


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
    with pytest.raises(ValidationError):
        Settings(gateway_url=url)


SECRETS = ("command_key", "session_secret", "operator_token", "notary_key", "razorpay_webhook_secret")


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_could_be_guessed_is_refused_without_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for weak in ("hush" * 7 + "hus", f"{'h' * 32},hush", " hush" + " " * 40):
        monkeypatch.setenv(variable(name), weak)
        with pytest.raises(ValidationError, match=f"{name}\n.*32 characters or more") as refused:
            Settings()
        assert "hush" not in str(refused.value)
        assert getattr(Settings(weak_secrets=True), name).get_secret_value() == weak
    monkeypatch.setenv(variable(name), "h" * 32)
    assert getattr(Settings(), name).get_secret_value() == "h" * 32


@pytest.mark.parametrize(
    ("role", "own"),
    [
        (CommonSettings, {"kafka_password"}),
        (SinkSettings, {"kafka_password", "clickhouse_url"}),
        (WorkerSettings, {"kafka_password", "command_key"}),
        (NotarySettings, {"kafka_password", "notary_key"}),
    ],
)
def test_a_role_sees_no_secret_but_its_own(role: type[CommonSettings], own: set[str]) -> None:
    secrets = {*SECRETS, "kafka_password", "razorpay_key_secret", "smtp_url", "clickhouse_url"}
    beside = {"PATH": "/bin", "METERING_CRASH_AT": "worker.decided", "METERING_PARTITIONS": "4"}
    seen = environment_of(role, {**{variable(name): "hush" for name in secrets}, **beside})
    assert seen == {**{variable(name): "hush" for name in own}, **beside}
    whole = {variable(name): "hush" for name in secrets}
    assert environment_of(Settings, whole) == whole


def test_an_instance_may_be_named_like_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container keeps its host's name when it is started again, and so does the pod of a StatefulSet."""
    monkeypatch.setattr("socket.gethostname", lambda: "Metering-Worker-0.metering.svc")
    assert CommonSettings(instance="@hostname").instance == "metering-worker-0"
    assert CommonSettings(instance="worker-1").instance == "worker-1"
    monkeypatch.setattr("socket.gethostname", lambda: "worker_1")
    with pytest.raises(ValidationError, match="instance"):
        CommonSettings(instance="@hostname")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"clickhouse_url": "http://h/d", "clickhouse_ca_file": "/ca"},
            "METERING_CLICKHOUSE_CA_FILE: has no effect",
        ),
        (
            {"clickhouse_url": "chdb:///d", "clickhouse_cert_file": "/c"},
            "METERING_CLICKHOUSE_CERT_FILE: has no effect",
        ),
        ({"clickhouse_ca_file": "/ca"}, "METERING_CLICKHOUSE_CA_FILE: has no effect"),
        (
            {"clickhouse_url": "https://h/d", "clickhouse_key_file": "/k"},
            "METERING_CLICKHOUSE_CERT_FILE: must be set",
        ),
        (
            {"clickhouse_url": "https://h/d", "clickhouse_ca_file": "/absent"},
            "METERING_CLICKHOUSE_CA_FILE: /absent cannot",
        ),
    ],
)
def test_files_for_clickhouse_that_are_no_use_are_named(given: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        SinkSettings(**given)  # type: ignore[arg-type]  # pydantic checks them


def test_clickhouse_is_checked_against_the_systems_authorities_where_no_file_is_set() -> None:
    files = SinkSettings(clickhouse_url="https://u:p@h:8443/d").clickhouse_tls
    assert (files.prefix, files.ca_file, files.cert_file, files.key_file) == (
        "METERING_CLICKHOUSE_",
        None,
        None,
        None,
    )
