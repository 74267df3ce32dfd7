"""Logging: one line an event on stderr, the same in every process.

Owns: the format and the level. Called by: the composition roots.
"""

from __future__ import annotations

import logging.config
from typing import Any

_NOISY = ("aiokafka", "faust", "mode", "asyncio", "kafka", "uvicorn.access", "httpx2")


def config(level: str) -> dict[str, Any]:
    """Return a `logging.config` dictionary for a level; libraries speak up from warnings on."""
    quiet = "WARNING" if level.upper() in ("DEBUG", "INFO") else level.upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {
            **{name: {"level": quiet} for name in _NOISY},
            # Kafka asks for a retry while it verifies a transaction (KIP-890), and gets it at once.
            "aiokafka.producer.sender": {"level": "ERROR"},
        },
    }


def configure(level: str) -> None:
    """Set logging up for this process."""
    logging.config.dictConfig(config(level))
