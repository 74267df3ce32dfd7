"""Logging: one line an event on stderr, the same in every process.

Owns: the format, the level, and how often the Kafka client repeats itself. Called by: the composition roots.
"""

from __future__ import annotations

import logging.config
from dataclasses import dataclass
from typing import Any

_NOISY = ("aiokafka", "faust", "mode", "asyncio", "kafka", "uvicorn.access", "uvicorn.error", "httpx2")
_KAFKA_CLIENT = "aiokafka"
AGAIN_S = 60.0
"""How often the client tells of one condition that goes on."""
PATIENCE_S = {"Group Coordinator Request failed: %s": 10.0}
"""What the client says at every healthy start, by its own text, and for how long it may go on before it is told: a
broker has to make its topic of offsets before it has a coordinator for a group."""
TOLD_BY_ITS_CALLER = frozenset(
    {
        'Unable connect to "%s:%s": %s',
        'Unable to request metadata from "%s:%s": %s',
        "Topic %s is not authorized for this client",
    }
)
"""What the client says by its own text, of the brokers it begins with and of rights that are lacking: it raises an error
too, which says more."""
_KINDS_KEPT = 256


@dataclass
class _Condition:
    """Something the client said, and may say again: since when, when last, and when we told it last."""

    since_s: float
    last_s: float
    told_s: float | None = None
    held: int = 0


class ClientLines(logging.Filter):
    """Lets a condition that the Kafka client complains of through once in `AGAIN_S`, with a count of what was held back.

    Away from its broker the client complains many times a second and goes on trying, so what it says is a warning here:
    where trying does not help, its caller gets an error, and says so itself. Tracebacks stay errors.
    """

    def __init__(self, level: str = "WARNING") -> None:
        """Start with nothing said. `level` is what libraries speak up from: the client's own level is not the one told."""
        super().__init__()
        self._level = logging.getLevelNamesMapping()[level]
        self._conditions: dict[tuple[str, str], _Condition] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is to be told; one of the client may come out changed."""
        if record.name.split(".")[0] != _KAFKA_CLIENT:
            return True
        if record.msg in TOLD_BY_ITS_CALLER:
            return False
        if record.levelno > logging.WARNING and not record.exc_info:
            record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        if record.levelno < self._level:
            return False
        text, now_s = str(record.msg), record.created
        condition = self._condition(record.name, text, now_s)
        condition.last_s = now_s
        is_new = now_s - condition.since_s < PATIENCE_S.get(text, 0.0)
        if is_new or (condition.told_s is not None and now_s - condition.told_s < AGAIN_S):
            condition.held += 1
            return False
        if condition.held:
            record.msg, record.args = "%s (and %d like it before)", (record.getMessage(), condition.held)
        condition.told_s, condition.held = now_s, 0
        return True

    def _condition(self, name: str, text: str, now_s: float) -> _Condition:
        """Return the condition that a text is about; after a minute without a word of it, it is another one."""
        condition = self._conditions.get((name, text))
        if condition is None or now_s - condition.last_s > AGAIN_S:
            if len(self._conditions) >= _KINDS_KEPT:
                self._conditions.clear()
            condition = self._conditions[name, text] = _Condition(now_s, now_s)
        return condition


def config(level: str) -> dict[str, Any]:
    """Return a `logging.config` dictionary for a level; libraries speak up from warnings on."""
    quiet = "WARNING" if level.upper() in ("DEBUG", "INFO") else level.upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "filters": {"client": {"()": ClientLines, "level": quiet}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["client"]}
        },
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {
            **{name: {"level": quiet} for name in _NOISY},
            # Kafka asks for a retry while it verifies a transaction (KIP-890), and gets it at once.
            "aiokafka.producer.sender": {"level": "ERROR"},
            # They warn of each call that fails, and raise an error that says more.
            **{name: {"level": "ERROR"} for name in ("clickhouse_connect", "urllib3.connectionpool")},
        },
    }


def configure(level: str) -> None:
    """Set logging up for this process."""
    logging.config.dictConfig(config(level))
