"""Which release this is: what `metering --version` says, and `metering_build_info` for Prometheus.

Owns: the distribution's name. The number stands in `pyproject.toml`.
Called by: `cli/main.py`, `telemetry.py`.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "bharatrouter-metering"


def release() -> str:
    """Return the release that is installed, `unknown` where the code was copied and not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"
