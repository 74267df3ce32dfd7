"""The command `metering`: every command group, and how failures are shown.

Owns: the list of command groups and the exit codes: 0 done, 1 it did not hold or failed, 2 wrong usage.
Called by: the installed script and `python -m pipeline`.  Next: the modules it registers.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Annotated

import typer
from aiokafka.errors import KafkaError

from pipeline import logs
from pipeline.cli import (
    accounts,
    catalog,
    config,
    demo,
    gateway,
    mirror,
    promo,
    prove,
    quarantine,
    rebuild,
    reconcile,
    redrive,
    roles,
    sessions,
    settle,
    status,
    up,
    verify,
    whatif,
)
from pipeline.cli.context import CommandError, say
from pipeline.clickhouse.cluster import ShardsError
from pipeline.clickhouse.location import LocationError
from pipeline.connection import KafkaSettingsError
from pipeline.formats import NewerFormatError
from pipeline.identity import MixedHistoriesError
from pipeline.journal import JournalFormatError
from pipeline.kafka.admin import TopicsError
from pipeline.kafka.catalog import CatalogClockError
from pipeline.kafka.follow import SilentTopicError
from pipeline.kafka.granting import GrantError
from pipeline.kafka.partitions import PartitionsError
from pipeline.kafka.refused import in_one_line
from pipeline.local.errors import LocalError
from pipeline.release import release
from pipeline.settings import MissingSettingError

log = logging.getLogger(__name__)

# Each module adds its commands to the program by `register`.
GROUPS = (
    *(up, demo, roles, config, status),
    *(accounts, sessions, catalog, promo, gateway),
    *(verify, prove, whatif, reconcile, settle, redrive, quarantine, rebuild, mirror),
)

_EXPECTED = (
    CatalogClockError,
    CommandError,
    GrantError,
    JournalFormatError,
    KafkaSettingsError,
    LocalError,
    LocationError,
    MissingSettingError,
    MixedHistoriesError,
    NewerFormatError,
    PartitionsError,
    ShardsError,
    SilentTopicError,
    TopicsError,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"metering {release()}")
        raise typer.Exit


def program() -> typer.Typer:
    """Return the program with all its commands."""
    app = typer.Typer(
        help="Exact metering and billing for a prepaid AI gateway.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for group in GROUPS:
        group.register(app)
    return app


def _options(
    *,
    is_version_wanted: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which release this is."),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run one command and exit with its code. Failures a person can act on are one message on stderr, a log line where
    these are JSON.
    """
    form = logs.format_of(os.environ)
    logs.configure("warning", form)
    _heed_sigterm()
    try:
        program()()
    except (*_EXPECTED, KafkaError) as error:
        to_do = str(error) if isinstance(error, _EXPECTED) else in_one_line(error)
        if to_do is None:
            raise
        if form is logs.LogFormat.JSON:
            log.critical("%s", to_do)
        else:
            say(to_do)
        sys.exit(1)


def _heed_sigterm() -> None:
    """End at SIGTERM as the first process of a container too, until a role takes the signal over.

    A signal that such a process has no handler for does nothing: told to stop while it starts, it would be waited for in vain.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


if __name__ == "__main__":
    main()
