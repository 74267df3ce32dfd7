"""The settings of a metered proxy, from the environment variables METERING_...

Owns: their names, defaults and what is wrong with them.
Called by: `gateway/proxying/meter.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self, cast

from msgspec import Struct

from pipeline.gateway.admission.admission import WhenStale
from pipeline.usage import MAX_TOKENS

HOLD_TOKENS = 4096


class ProxySettingsError(ValueError):
    """A setting is missing or no use. The message names the variable."""


class ProxySettings(Struct, frozen=True):
    """How a proxy is metered.

    `spool_dir` has one directory a process in it. `hold_tokens` is how long an answer may be, in tokens, whose
    request does not say: so much is set aside for it.
    """

    kafka_url: str
    node: str
    spool_dir: Path
    when_stale: WhenStale = "open"
    hold_tokens: int = HOLD_TOKENS

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Self:
        """Return what the variables say. Raises ProxySettingsError."""
        when_stale = environment.get("METERING_WHEN_STALE") or "open"
        if when_stale not in ("open", "closed"):
            raise ProxySettingsError("METERING_WHEN_STALE must be open or closed")
        hold_tokens = environment.get("METERING_HOLD_TOKENS") or str(HOLD_TOKENS)
        if not hold_tokens.isascii() or not hold_tokens.isdecimal() or int(hold_tokens) > MAX_TOKENS:
            raise ProxySettingsError(f"METERING_HOLD_TOKENS must be a whole number of at most {MAX_TOKENS}")
        return cls(
            _given(environment, "METERING_KAFKA_URL", "kafka://127.0.0.1:9092"),
            _given(environment, "METERING_NODE", "mum-1"),
            Path(_given(environment, "METERING_SPOOL_DIR", "/var/lib/metering/spool")),
            cast("WhenStale", when_stale),
            int(hold_tokens),
        )


def _given(environment: Mapping[str, str], name: str, example: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise ProxySettingsError(f"{name} must be set, for example {name}={example}")
    return value
