"""Settings: environment variables that start with METERING_, read once.

Owns: every setting's name, default and check.
Called by: the composition roots (`cli/`, `worker/`, `api/`), which hand the values on.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.accounts.authentication import CommandKeys
from pipeline.connection import KafkaConnection, KafkaSecurity
from pipeline.journal import PARTITIONS_MAX
from pipeline.tls import TlsFiles

CHECKOUT_URL = "https://checkout.razorpay.com/v1/checkout.js"
PREFIX = "METERING_"
SECRET_CHARS_MIN = 32
NOTARY_SECRETS_MAX = 2

ADDRESS_REQUESTS_PER_S = 1000
SESSION_REQUESTS_PER_S = 100


class MissingSettingError(Exception):
    """A setting that this command needs is absent."""


def _strong(secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
    """Refuse a secret that could be guessed: each of several after commas counts."""
    if secret is not None and not info.data.get("weak_secrets"):
        shortest = min(len(each.strip()) for each in secret.get_secret_value().split(","))
        if shortest < SECRET_CHARS_MIN:
            raise ValueError(
                f"must have {SECRET_CHARS_MIN} characters or more: openssl rand -hex 32 makes one"
            )
    return secret


StrongSecret = Annotated[SecretStr | None, AfterValidator(_strong)]
"""A secret of ours: whoever guesses it is whoever it stands for."""


class CommonSettings(BaseSettings):
    """What every role needs to work with the brokers, and to be told apart. Secrets print as asterisks."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    weak_secrets: bool = False
    """Takes secrets of fewer than 32 characters, to try things out; `metering up` does, as it is for one machine."""
    kafka_url: str | None = None
    """kafka://host:port, more brokers after commas; the embedded broker where absent (`up` only)."""
    kafka_security_protocol: str = "PLAINTEXT"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL; the other Kafka settings have to fit: see connection.py."""
    kafka_sasl_mechanism: str | None = None
    """PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None
    kafka_ca_file: str | None = None
    """PEM file of the authorities that brokers' certificates are checked against; the system's where absent."""
    kafka_cert_file: str | None = None
    """PEM file of the certificate that this client shows (mutual TLS)."""
    kafka_key_file: str | None = None
    """PEM file of that certificate's key, without a password; in the certificate's file where absent."""
    deployment: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")] = "metering"
    """Prefix of transactional ids and consumer groups: two deployments on one Kafka need two."""
    instance: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}$")] | None = None
    """This process's static member id in its consumer groups (Kafka's `group.instance.id`); `@hostname` is the host's name.

    No two live processes of one role may share it, and a process keeps it over restarts: then Kafka gives it
    its partitions back as soon as it joins again, without waiting for the session of before to time out.
    """
    partitions: Annotated[int, Field(ge=1, le=PARTITIONS_MAX)] = 4
    replication_factor: Annotated[int, Field(ge=1)] = 1
    min_insync_replicas: Annotated[int, Field(ge=1)] = 1
    accepted_topics: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]] = Field(default_factory=dict)
    """Ids of input topics, by name, in JSON: a topic that was made anew under its name is taken only with its id here.

    It is read from its beginning then. When that is safe, docs/operations.md says.
    """
    host: str = "127.0.0.1"
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"
    log_format: Annotated[str, Field(pattern="^(text|json)$")] = "text"
    """How log lines are written: text for a person, or one JSON object each (docs/operations.md, «Logs»)."""

    @field_validator("instance", mode="before")
    @classmethod
    def _host_name(cls, instance: object) -> object:
        return socket.gethostname().partition(".")[0].lower() if instance == "@hostname" else instance

    @field_validator("kafka_url")
    @classmethod
    def _kafka_scheme(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith("kafka://"):
            raise ValueError("must look like kafka://host:port")
        return url

    @model_validator(mode="after")
    def _usable_kafka_security(self) -> Self:
        self.kafka_security.tls_context()
        return self

    @property
    def kafka_security(self) -> KafkaSecurity:
        """How clients speak to the brokers."""
        password = self.kafka_password
        return KafkaSecurity.of(
            {
                "security_protocol": self.kafka_security_protocol,
                "sasl_mechanism": self.kafka_sasl_mechanism,
                "username": self.kafka_username,
                "password": None if password is None else password.get_secret_value(),
                "ca_file": self.kafka_ca_file,
                "cert_file": self.kafka_cert_file,
                "key_file": self.kafka_key_file,
            }
        )

    @property
    def kafka(self) -> KafkaConnection:
        """The brokers and how clients speak to them. Raises MissingSettingError where no broker is set."""
        return KafkaConnection(self.kafka_servers, self.kafka_security)

    @property
    def kafka_servers(self) -> str:
        """The brokers as aiokafka takes them: host:port, after commas. Raises MissingSettingError."""
        if self.kafka_url is None:
            raise MissingSettingError("METERING_KAFKA_URL is not set")
        return self.kafka_url.removeprefix("kafka://")


class StatusSettings(CommonSettings):
    """What a role needs that says how it is on a port of its own."""

    worker_port: Annotated[int, Field(ge=0, le=65535)] = 8001
    """Where a worker serves /livez, /readyz, /healthz and /metrics, and a sink or a notary that runs apart."""


class SinkSettings(StatusSettings):
    """What a sink needs."""

    clickhouse_url: str | None = None
    """chdb://PATH, or http(s)://user:password@host:port/database; embedded where absent (`up` only)."""
    clickhouse_ca_file: str | None = None
    """PEM file of the authorities that ClickHouse's certificate is checked against; the system's where absent."""
    clickhouse_cert_file: str | None = None
    """PEM file of the certificate that is shown to ClickHouse; without a password in the URL it says who we are."""
    clickhouse_key_file: str | None = None
    """PEM file of that certificate's key, without a password; in the certificate's file where absent."""
    sink_memory_mib: Annotated[int, Field(ge=16, le=65_536)] = 128
    """How much of the journal the sink of a process holds at most, in MiB, over all its partitions.

    Its copies on their way to ClickHouse are counted, one fetch and the process itself are not.
    """

    @field_validator("clickhouse_url")
    @classmethod
    def _clickhouse_scheme(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("chdb://", "http://", "https://")):
            raise ValueError("must look like chdb://PATH or http://user:password@host:port/database")
        return url

    @model_validator(mode="after")
    def _usable_clickhouse_files(self) -> Self:
        given = ("ca_file", "cert_file", "key_file")
        named = [name for name in given if getattr(self, f"clickhouse_{name}") is not None]
        if (self.clickhouse_url or "").startswith("https://"):
            if "key_file" in named and "cert_file" not in named:
                raise ValueError(
                    "METERING_CLICKHOUSE_CERT_FILE: must be set, as METERING_CLICKHOUSE_KEY_FILE is: the key is that certificate's"
                )
            self.clickhouse_tls.context()
        elif named:
            raise ValueError(
                f"{variable(f'clickhouse_{named[0]}')}: has no effect unless METERING_CLICKHOUSE_URL begins with https://"
            )
        return self

    @property
    def clickhouse_tls(self) -> TlsFiles:
        """What clients of ClickHouse check it against, and show it."""
        return TlsFiles(
            f"{PREFIX}CLICKHOUSE_",
            self.clickhouse_ca_file,
            self.clickhouse_cert_file,
            self.clickhouse_key_file,
        )


class VerifySettings(SinkSettings):
    """What `metering verify` needs."""

    events_kept_from: Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")] | None = None
    """The first IST month, 2026-03, whose requests ClickHouse has one by one, where older ones were dropped from it."""


class WorkerSettings(StatusSettings):
    """What a worker needs."""

    ends_every_s: Annotated[float, Field(gt=0, le=86_400)] = 3600
    """How often a worker compares where state, journal and inputs of a partition end: see docs/operations.md."""
    command_key: StrongSecret = None
    """Signs the commands that server and operators send, and workers carry out; two after a comma while it is renewed."""

    signed_sources_only: bool = False
    """Charge events of registered gateways alone (`metering gateway create`), in records that these have signed."""

    @field_validator("command_key")
    @classmethod
    def _one_or_two_keys(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            CommandKeys.parse(key.get_secret_value())
        return key

    @property
    def command_keys(self) -> CommandKeys:
        """The keys that commands are signed with. Raises MissingSettingError where none is set."""
        if self.command_key is None:
            raise MissingSettingError("METERING_COMMAND_KEY is not set")
        return CommandKeys.parse(self.command_key.get_secret_value())


class NotarySettings(StatusSettings):
    """What a notary needs."""

    notary_key: StrongSecret = None
    """Signs a checkpoint of each closed day; two after a comma, the new one first, until a day was signed with it."""

    @field_validator("notary_key")
    @classmethod
    def _one_or_two_notary_keys(cls, key: SecretStr | None) -> SecretStr | None:
        secrets = [] if key is None else [each.strip() for each in key.get_secret_value().split(",")]
        if not all(secrets) or len(secrets) > NOTARY_SECRETS_MAX:
            raise ValueError("one secret, or two after a comma, the new one first")
        return key


class Settings(VerifySettings, WorkerSettings, NotarySettings):
    """Everything that can be set: what the server and the operator's commands need."""

    session_secret: StrongSecret = None
    razorpay_key_id: str | None = None
    razorpay_key_secret: SecretStr | None = None
    razorpay_webhook_secret: StrongSecret = None
    razorpay_url: str = "https://api.razorpay.com/v1"
    reconcile_every_s: Annotated[float, Field(gt=0, le=3600)] = 60
    """How often Razorpay is asked about an order of the last hour that is not paid."""
    smtp_url: SecretStr | None = None
    """smtp://user:password@host:port, smtps:// for TLS from the first byte; no mail is sent where absent."""
    smtp_password_in_clear: bool = False
    """Lets the password go out without TLS where the mail server offers none; else no mail goes there."""
    mail_from: Annotated[str, Field(max_length=254)] = "BharatRouter <billing@localhost>"
    """Whom mails come from: an address, or a name and an address in angle brackets."""
    public_url: str | None = None
    """Where browsers reach the server, https://billing.example.in: for links in mails and safe cookies."""
    checkout_url: str = CHECKOUT_URL
    """Razorpay's Checkout, the only thing a page loads from elsewhere, and only to top up."""
    gateway_url: str | None = None
    """Where programs send requests, https://gateway.example.in: shown with a new key."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    proxies: str = ""
    """Addresses and networks of the proxies before the server, after commas: their X-Forwarded-For is believed."""
    address_connections: Annotated[int, Field(ge=1)] = 256
    """How many connections one network address may have open at a server; a proxy as many as there are."""
    address_requests_per_s: Annotated[int, Field(ge=1)] = ADDRESS_REQUESTS_PER_S
    """How many requests a second one network address may send to a server, ten seconds of them at once."""
    session_requests_per_s: Annotated[int, Field(ge=1)] = SESSION_REQUESTS_PER_S
    """How many requests a second one session may send to a server, ten seconds of them at once."""
    server_sink: bool = True
    """Whether `metering server` runs the sink too; off where `metering sink` runs apart."""
    server_status_port: Annotated[int | None, Field(ge=0, le=65535)] = None
    """Where a server serves /livez, /readyz, /healthz and /metrics; where absent 8002, or nowhere if that is taken."""
    stop_delay_s: Annotated[float, Field(ge=0, le=300)] = 3
    """How long a server that is told to stop goes on answering, while /readyz says so and load balancers take it out."""
    operator_token: StrongSecret = None
    """Opens the operator's endpoints of the server, which `up` uses for `metering verify`."""

    @field_validator("smtp_url")
    @classmethod
    def _smtp_scheme(cls, url: SecretStr | None) -> SecretStr | None:
        parts = urlsplit(url.get_secret_value()) if url is not None else None
        if parts is not None and not (parts.scheme in ("smtp", "smtps") and parts.hostname):
            raise ValueError("must look like smtp://user:password@host:port")
        return url

    @field_validator("mail_from")
    @classmethod
    def _one_mail_address(cls, text: str) -> str:
        if not re.fullmatch(r"(?:[^<>@\x00-\x1f]*<[^<>@\s]+@[^<>@\s]+>|[^<>@\s]+@[^<>@\s]+)", text, re.ASCII):
            raise ValueError("must look like Name <name@host> or name@host")
        return text

    @field_validator("proxies")
    @classmethod
    def _networks(cls, text: str) -> str:
        for part in filter(None, (part.strip() for part in text.split(","))):
            ipaddress.ip_network(part)
        return text

    @field_validator("public_url", "checkout_url", "gateway_url")
    @classmethod
    def _web_address(cls, url: str | None) -> str | None:
        # It ends up in a policy header and in markup: an address and nothing else.
        if url is not None and not re.fullmatch(
            r"https?://[A-Za-z0-9.\-]+(:\d{1,5})?(/[A-Za-z0-9._~/\-]*)?", url
        ):
            raise ValueError("must look like https://host/path")
        return url


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def environment_of(role: type[CommonSettings], environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a role may see of an environment: no setting, so no secret, of other roles."""
    foreign = {variable(name) for name in Settings.model_fields.keys() - role.model_fields.keys()}
    return {name: value for name, value in environment.items() if name not in foreign}
