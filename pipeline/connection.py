"""Where the Kafka brokers are, and how a client proves to them who it is: one value for every client.

Owns: the security settings that go together, and what is wrong with a set of them.
Called by: `settings.py` and `gateway/gateway.py` make one; `kafka/clients.py` makes clients of it.

The names are those of the environment variables (METERING_KAFKA_...), so that an error says what to set.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Self

from pipeline.tls import TlsFiles, TlsFilesError

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
VARIABLE_PREFIX = "METERING_KAFKA_"


class KafkaSettingsError(ValueError):
    """The Kafka settings do not fit together or name a file that is no use. The message says what to set."""


@dataclass(frozen=True)
class KafkaSecurity:
    """How a client speaks to the brokers: in the clear, over TLS, signed in by SASL. No password is shown.

    Raises KafkaSettingsError where the settings contradict each other. Files are read by `tls_context`.
    """

    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Self:
        """Return what the variables METERING_KAFKA_... say. Raises KafkaSettingsError."""
        return cls.of({each.name: environment.get(_variable(each.name)) for each in fields(cls)})

    @classmethod
    def of(cls, given: Mapping[str, str | None]) -> Self:
        """Return what is given by field name; an empty text is the same as none. Raises KafkaSettingsError."""
        return cls(**{name: value for name, value in given.items() if value})

    def environment(self) -> dict[str, str]:
        """Return the variables that say the same, the password among them: for a process of ours to start."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return {_variable(name): value for name, value in given.items() if value is not None}

    def __post_init__(self) -> None:
        """Check that the settings fit together."""
        if self.security_protocol not in PROTOCOLS:
            raise KafkaSettingsError(
                f"{_variable('security_protocol')}: must be one of {', '.join(PROTOCOLS)}"
            )
        self._check_sasl()
        self._check_tls()

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        """Whether the client signs in with a user name and password."""
        return self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    def tls_context(self) -> ssl.SSLContext | None:
        """Return a TLS context made of the files, None where connections are not encrypted.

        Brokers are checked against the CA file, or the system's authorities where none is set, and their
        host names too. Raises KafkaSettingsError naming the file that cannot be used.
        """
        if not self.uses_tls:
            return None
        try:
            return TlsFiles(VARIABLE_PREFIX, self.ca_file, self.cert_file, self.key_file).context()
        except TlsFilesError as error:
            raise KafkaSettingsError(str(error)) from None

    def _check_sasl(self) -> None:
        names = ("sasl_mechanism", "username", "password")
        if not self.uses_sasl:
            self._refuse_given(names, "SASL_SSL or SASL_PLAINTEXT")
            return
        if self.sasl_mechanism not in MECHANISMS:
            raise KafkaSettingsError(
                f"{_variable('sasl_mechanism')}: must be one of {', '.join(MECHANISMS)}, as "
                f"{_variable('security_protocol')} is {self.security_protocol}"
            )
        for name in names[1:]:
            if not getattr(self, name):
                raise KafkaSettingsError(
                    f"{_variable(name)}: must be set, as {_variable('security_protocol')} is {self.security_protocol}"
                )

    def _check_tls(self) -> None:
        if not self.uses_tls:
            self._refuse_given(("ca_file", "cert_file", "key_file"), "SSL or SASL_SSL")
        elif self.key_file is not None and self.cert_file is None:
            raise KafkaSettingsError(
                f"{_variable('cert_file')}: must be set, as {_variable('key_file')} is: the key is that certificate's"
            )

    def _refuse_given(self, names: tuple[str, ...], wanted: str) -> None:
        """Refuse settings that would be ignored: whoever sets a password believes that it is asked for."""
        for name in names:
            if getattr(self, name) is not None:
                raise KafkaSettingsError(
                    f"{_variable(name)}: has no effect while {_variable('security_protocol')} is "
                    f"{self.security_protocol}: set that to {wanted}, or leave this out"
                )


@dataclass(frozen=True)
class KafkaConnection:
    """The brokers (host:port, more after commas), and how clients speak to them."""

    servers: str
    security: KafkaSecurity = KafkaSecurity()

    def client_arguments(self) -> dict[str, object]:
        """Return what aiokafka's consumers, producers and admin clients take of this, by its names.

        Files are read each time, so a client made after a certificate was renewed uses the new one. Raises
        KafkaSettingsError.
        """
        arguments: dict[str, object] = {
            "bootstrap_servers": self.servers,
            "security_protocol": self.security.security_protocol,
            "ssl_context": self.security.tls_context(),
        }
        if self.security.uses_sasl:
            arguments |= {
                "sasl_mechanism": self.security.sasl_mechanism,
                "sasl_plain_username": self.security.username,
                "sasl_plain_password": self.security.password,
            }
        return arguments


def _variable(name: str) -> str:
    return f"{VARIABLE_PREFIX}{name.upper()}"
