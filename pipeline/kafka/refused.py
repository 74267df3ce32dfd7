"""Why brokers will not have us, in one line that says what to set.

Owns: telling apart what a wrong setting, certificate, password or right looks like on a connection; aiokafka itself says
only that it is «unable to bootstrap». Called by: `kafka/hanging.py` whenever a client finds no broker, and by whoever
ends or waits at an error of Kafka.

A broker that is merely away is no refusal: it comes back, and clients go on trying.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from pipeline.connection import VARIABLE_PREFIX
from pipeline.tls import tls_error_in, why_refused, words_of

LOOK_MS_MAX = 5_000
_PROTOCOL = "METERING_KAFKA_SECURITY_PROTOCOL"
_CERT, _URL = "METERING_KAFKA_CERT_FILE", "METERING_KAFKA_URL"


class KafkaRefusedError(KafkaError):  # type: ignore[misc]  # aiokafka is published without types
    """The brokers are there and will not have us. The message says what to set: trying again does not help."""

    def __str__(self) -> str:
        """Return the message alone, without the class name that aiokafka puts before it."""
        return str(self.args[0])


class KafkaAwayError(KafkaConnectionError):  # type: ignore[misc]
    """No broker answers. The message says which were asked, and how each failed to."""

    def __str__(self) -> str:
        """Return the message alone."""
        return str(self.args[0])


async def why_unreached(arguments: Mapping[str, Any]) -> KafkaError:
    """Ask each broker that clients begin with, and return what is wrong: a refusal, where one refuses.

    `arguments` are a client's, by aiokafka's names.
    """
    away = []
    for host, port, _ in collect_hosts(arguments["bootstrap_servers"]):
        broker = f"{host}:{port}"
        try:
            await _ask(host, port, arguments)
        except (OSError, KafkaError, TimeoutError) as error:
            refusal = _refusal(broker, error, arguments)
            if refusal is not None:
                return KafkaRefusedError(refusal)
            away.append(f"{broker} ({_away(error, arguments)})")
        else:
            away.append(f"{broker} (it answers now)")
    return KafkaAwayError(f"no broker answers: {', '.join(away)}; {_URL} names them")


async def _ask(host: str, port: int, arguments: Mapping[str, Any]) -> None:
    names = (
        "ssl_context",
        "security_protocol",
        "sasl_mechanism",
        "sasl_plain_username",
        "sasl_plain_password",
    )
    given = {name: arguments[name] for name in names if name in arguments}
    connection: AIOKafkaConnection = await create_conn(host, port, request_timeout_ms=LOOK_MS_MAX, **given)
    try:
        await connection.send(MetadataRequest([]))
    finally:
        connection.close()


def _refusal(broker: str, error: BaseException, arguments: Mapping[str, Any]) -> str | None:
    """Return what an error on a fresh connection says of our settings, None where the broker is just away."""
    tls = tls_error_in(error)
    protocol = arguments.get("security_protocol")
    if tls is not None:
        return why_refused(tls, broker, VARIABLE_PREFIX) or (
            f"{_PROTOCOL} is {protocol}, but {broker} does not speak TLS ({words_of(tls)})"
        )
    of_sasl = {
        errors.SaslAuthenticationFailed: "METERING_KAFKA_USERNAME, METERING_KAFKA_PASSWORD: {} does not take them: there "
        "is no such user, or the password is another",
        errors.UnsupportedSaslMechanismError: "METERING_KAFKA_SASL_MECHANISM: {} does not take "
        f"{arguments.get('sasl_mechanism')}",
        errors.IllegalSaslStateError: f"{_PROTOCOL} is {protocol}, but {{}} asks for no password on this port",
    }
    return next((text.format(broker) for kind, text in of_sasl.items() if isinstance(error, kind)), None)


_REFUSED = {
    errors.TopicAuthorizationFailedError: "use the topic {}",
    errors.GroupAuthorizationFailedError: "read in the consumer group {}",
    errors.TransactionalIdAuthorizationFailed: "write under a transactional id: {}",
    errors.ClusterAuthorizationFailedError: "do this on the cluster: {}",
}


def in_one_line(error: BaseException) -> str | None:
    """Return what a person has to do about an error of Kafka, None where the error is of another kind."""
    if isinstance(error, KafkaRefusedError | KafkaAwayError):
        return str(error)
    named = ", ".join(sorted(str(name) for name in _names(error)))
    if isinstance(error, errors.MessageSizeTooLargeError | errors.RecordListTooLargeError):
        return (
            f"a topic takes no record as large as is needed ({named}): run `metering topics`, which sets its "
            "`max.message.bytes`"
        )
    for kind, text in _REFUSED.items():
        if isinstance(error, kind):
            return (
                f"the user of this process may not {text.format(named)}: give it the rights of its role, which `metering "
                "topics --acls` prints"
            )
    return None


def _names(error: BaseException) -> list[object]:
    found: list[object] = []
    for argument in error.args:
        found += argument if isinstance(argument, set | list | tuple | frozenset) else [argument]
    return found


def _away(error: BaseException, arguments: Mapping[str, Any]) -> str:
    """Return how a broker failed to answer; one that is being stopped looks like one that wants another protocol."""
    if isinstance(error, KafkaConnectionError):
        protocol = arguments.get("security_protocol")
        shown = (
            f", or it does not take the client's certificate ({_CERT})"
            if arguments.get("ssl_context")
            else ""
        )
        return f"it closed the connection: it is being stopped, or {_PROTOCOL} is not {protocol} there{shown}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
