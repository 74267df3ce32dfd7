"""`metering config`: the settings in force, secrets masked.

Owns: what of a setting may be shown.
Called by: `cli/main.py`.  Next: `cli/context.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

import typer
from pydantic import SecretStr

from pipeline.cli.context import DATA_DIR, DataDir, print_json, say, settings_for
from pipeline.settings import Settings, variable

_MASK = "**********"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def config(data_dir: DataDir = DATA_DIR) -> None:
        """Print the settings in force, secrets masked; exit 1 on a bad one."""
        print_json(shown(settings_for(data_dir)))
        for name in unknown(os.environ):
            say(f"{name} is not a setting and has no effect")


def shown(settings: Settings) -> dict[str, str | int | None]:
    """Return each setting by its variable, with nothing in it that must stay secret."""
    return {variable(name): _masked(getattr(settings, name)) for name in Settings.model_fields}


def unknown(names: Iterable[str]) -> list[str]:
    """Return which of these variables look like settings and are none."""
    known = {variable(name) for name in Settings.model_fields}
    return sorted(n for n in names if n.startswith("METERING_") and n not in known)


def _masked(value: str | int | SecretStr | None) -> str | int | None:
    if isinstance(value, SecretStr):
        return _MASK
    if not isinstance(value, str) or "@" not in value:
        return value
    url = urlsplit(value)
    user, _, place = url.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return urlunsplit(url._replace(netloc=f"{name}:{_MASK}@{place}" if colon else url.netloc))
