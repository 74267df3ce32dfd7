"""The Kafka security settings: which fit together, what an error says, and that TLS really checks brokers."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from pipeline.connection import KafkaConnection, KafkaSecurity, KafkaSettingsError

SCRAM = {"sasl_mechanism": "SCRAM-SHA-512", "username": "worker", "password": "hush"}


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for `localhost` that is its own authority, its key, and the key under a password."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make certificates with")
    home = tmp_path_factory.mktemp("certificates")
    key, cert = home / "key.pem", home / "cert.pem"
    _openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
        *("-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert),
    )
    _openssl("rsa", "-aes128", "-passout", "pass:hush", "-in", key, "-out", home / "locked.pem")
    return home


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"security_protocol": "TLS"}, "METERING_KAFKA_SECURITY_PROTOCOL: must be one of PLAINTEXT, SSL"),
        ({"security_protocol": "SASL_SSL"}, "METERING_KAFKA_SASL_MECHANISM: must be one of PLAIN, SCRAM"),
        (
            {"security_protocol": "SASL_SSL", **SCRAM, "sasl_mechanism": "GSSAPI"},
            "METERING_KAFKA_SASL_MECHANISM: must be one of",
        ),
        ({"security_protocol": "SASL_SSL", **SCRAM, "username": ""}, "METERING_KAFKA_USERNAME: must be set"),
        ({"security_protocol": "SASL_SSL", **SCRAM, "password": ""}, "METERING_KAFKA_PASSWORD: must be set"),
        (
            SCRAM,
            "METERING_KAFKA_SASL_MECHANISM: has no effect while METERING_KAFKA_SECURITY_PROTOCOL is PLAIN",
        ),
        ({"security_protocol": "SSL", "password": "hush"}, "METERING_KAFKA_PASSWORD: has no effect"),
        ({"ca_file": "/ca.pem"}, "METERING_KAFKA_CA_FILE: has no effect"),
        ({"security_protocol": "SSL", "key_file": "/key.pem"}, "METERING_KAFKA_CERT_FILE: must be set"),
    ],
)
def test_what_does_not_fit_together_is_refused_and_says_what_to_set(given: dict[str, str], says: str) -> None:
    with pytest.raises(KafkaSettingsError) as refused:
        KafkaSecurity.of(given)
    assert str(refused.value).startswith(says)
    assert "hush" not in str(refused.value)


def test_the_environment_says_it_and_can_be_told_again() -> None:
    environment = {
        "METERING_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "METERING_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "METERING_KAFKA_USERNAME": "worker",
        "METERING_KAFKA_PASSWORD": "hush",
        "METERING_KAFKA_CA_FILE": "/ca.pem",
    }
    security = KafkaSecurity.of_environment({**environment, "METERING_KAFKA_CERT_FILE": "", "OTHER": "x"})
    assert security == KafkaSecurity("SASL_SSL", **SCRAM, ca_file="/ca.pem")
    assert security.environment() == environment
    assert "hush" not in repr(KafkaConnection("k:1", security))


def test_clients_get_what_is_set_and_nothing_else() -> None:
    assert KafkaConnection("k:1,k:2").client_arguments() == {
        "bootstrap_servers": "k:1,k:2",
        "security_protocol": "PLAINTEXT",
        "ssl_context": None,
    }
    signed_in = KafkaConnection("k:1", KafkaSecurity("SASL_SSL", **SCRAM)).client_arguments()
    assert isinstance(signed_in["ssl_context"], ssl.SSLContext)
    assert signed_in["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (signed_in["sasl_plain_username"], signed_in["sasl_plain_password"]) == ("worker", "hush")


def test_a_file_that_is_no_use_is_named_with_the_reason(files: Path) -> None:
    for given, says in (
        ({"ca_file": "/absent.pem"}, r"METERING_KAFKA_CA_FILE: /absent\.pem cannot be used: No such file"),
        ({"ca_file": f"{files}/key.pem"}, r"METERING_KAFKA_CA_FILE: .*key\.pem cannot be used: "),
        (
            {"cert_file": "/absent.pem"},
            r"METERING_KAFKA_CERT_FILE: /absent\.pem cannot be used: No such file",
        ),
        (
            {"cert_file": f"{files}/cert.pem", "key_file": f"{files}/locked.pem"},
            "METERING_KAFKA_KEY_FILE: is encrypted",
        ),
    ):
        with pytest.raises(KafkaSettingsError, match=says):
            KafkaSecurity("SSL", **given).tls_context()


async def test_a_broker_is_believed_only_with_a_certificate_of_the_authority_and_its_name(
    files: Path,
) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(files / "cert.pem", files / "key.pem")
    serving.load_verify_locations(files / "cert.pem")
    serving.verify_mode = ssl.CERT_REQUIRED
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=serving)
    port = server.sockets[0].getsockname()[1]

    async def connects(security: KafkaSecurity, name: str = "localhost") -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=security.tls_context(), server_hostname=name
        )
        assert await reader.read() == b""
        writer.close()

    ours = KafkaSecurity(
        "SSL", ca_file=f"{files}/cert.pem", cert_file=f"{files}/cert.pem", key_file=f"{files}/key.pem"
    )
    async with server:
        await connects(ours)
        with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
            await connects(KafkaSecurity("SSL"))
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await connects(ours, "broker.example")
