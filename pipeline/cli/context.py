"""What every command needs: the settings in force, the running `up` it works through, and how it speaks.

Owns: how settings are read and shown to be bad, which deployment a data directory means, JSON on stdout.
Called by: the other modules of `cli/`.  Next: `settings.py`, `local/deployment.py`.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer
from pydantic import ValidationError

from pipeline.connection import KafkaConnection
from pipeline.kafka.refused import in_one_line
from pipeline.local import deployment
from pipeline.local.deployment import Deployment
from pipeline.settings import CommonSettings, Settings, variable

S = TypeVar("S", bound=CommonSettings)

DATA_DIR = Path(".metering")
DAYS = ["%Y-%m-%d"]
"""How an option for an IST day is written."""

DataDir = Annotated[
    Path, typer.Option("--data-dir", help="The data directory of the `up` to work with.", metavar="DIR")
]
"""The option every command takes; its default is `DATA_DIR`."""


class CommandError(Exception):
    """A command did not hold or failed, for a reason a person can read. Exit code 1, no traceback."""


def settings_from_environment(kind: type[S], **given: object) -> S:
    """Read the settings of a kind, `given` over the environment. Raises CommandError naming each bad variable."""
    try:
        return kind(**given)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        # Only the reason: the value itself may be a secret.
        bad = [
            ": ".join((*map(variable, map(str, one["loc"])), _plain(one["msg"]))) for one in error.errors()
        ]
        raise CommandError("\n".join(bad)) from None


def running_on(data_dir: Path) -> Deployment | None:
    """Return the `up` that runs on this directory, unless the environment names another Kafka or ClickHouse.

    Raises CommandError on bad settings and LocalError on a damaged data directory.
    """
    at = deployment.running(data_dir)
    settings = settings_from_environment(Settings, weak_secrets=True)
    if at is None or settings.kafka_url not in (None, at.kafka_url, at.gateway_kafka_url):
        return None
    return at if settings.clickhouse_url in (None, at.clickhouse_url) else None


def settings_for(data_dir: Path) -> Settings:
    """Return the settings that a command works with: see `role_settings_for`."""
    return role_settings_for(Settings, data_dir)


def role_settings_for(kind: type[S], data_dir: Path) -> S:
    """Return the settings of a role: those of the `up` on this directory, else the environment's.

    Raises CommandError on bad settings and LocalError on a damaged data directory.
    """
    at = running_on(data_dir)
    if at is None:
        return settings_from_environment(kind)
    return settings_from_environment(
        kind,
        weak_secrets=True,
        clickhouse_url=at.clickhouse_url,
        deployment=at.deployment,
        partitions=at.partitions,
        session_secret=at.session_secret,
        operator_token=at.operator_token,
        command_key=at.command_key,
        notary_key=at.notary_key or None,
        **of_connection(at.kafka),
    )


def kafka_failed(error: BaseException) -> CommandError:
    """Return what a command raises where Kafka failed it: what to set, or else what happened."""
    return CommandError(in_one_line(error) or f"Kafka did not do what was asked: {error!r}")


def of_connection(brokers: KafkaConnection) -> dict[str, object]:
    """Return the settings that mean these brokers."""
    security = {f"kafka_{name}": value for name, value in asdict(brokers.security).items()}
    return {"kafka_url": f"kafka://{brokers.servers}", **security}


def print_json(data: object) -> None:
    """Print a command's data on stdout."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(data)).decode() + "\n")


def say(message: str) -> None:
    """Print a message for a person on stderr."""
    sys.stderr.write(f"{message}\n")


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input ")
