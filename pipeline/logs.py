"""Logging: one line an event on stderr, the same in every process, as text or as JSON.

Owns: both formats, the level, that what ends a process is a line too, and how often the Kafka client repeats itself.
Called by: the composition roots. Next: `request_id.py` knows for which request a line is written.

No line has a secret in it, nor a customer's data: an org is named only where an operator has to do something for it.
"""

from __future__ import annotations

import json
import logging.config
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import Any

from pipeline import request_id

log = logging.getLogger(__name__)


class LogFormat(StrEnum):
    """How lines are written: for a person, or one JSON object each (https://jsonlines.org)."""

    TEXT = "text"
    JSON = "json"


MESSAGE_CHARS_MAX, EXCEPTION_CHARS_MAX = 4_096, 8_192
"""Longer ones are cut, a traceback at its front: what collects logs of containers splits lines of more than 16 KiB."""

_NOISY = ("aiokafka", "faust", "mode", "asyncio", "kafka", "uvicorn.access", "uvicorn.error", "httpx2")
_KAFKA_CLIENT = "aiokafka"
AGAIN_S = 60.0
"""How often the client tells of one condition that goes on."""
PATIENCE_S = {
    "Group Coordinator Request failed: %s": 10.0,
    "Marking the coordinator dead (node %s)for group %s.": 10.0,
}
"""What the client says at a healthy start, by its own text, and for how long it may go on before it is told: a broker has
to make its topic of offsets before it has a coordinator for a group, and that one has to load it before it serves."""
TOLD_BY_ITS_CALLER = frozenset(
    {
        'Unable connect to "%s:%s": %s',
        'Unable to request metadata from "%s:%s": %s',
        "Topic %s is not authorized for this client",
    }
)
"""What the client says by its own text, of the brokers it begins with and of rights that are lacking: it raises an error
too, which says more."""
CHOSEN = "Sending username and password in the clear"
"""What the client says at each connection where METERING_KAFKA_SECURITY_PROTOCOL is SASL_PLAINTEXT. The embedded broker is
spoken to so, within the machine; for others docs/deploy.md says what it means."""
GIVEN_UP = "a request that nobody waits for any more had failed: %s"
"""What we say of a task of the client that failed after its caller had given it up, in place of a traceback: a commit of a
group's offsets is given up after two seconds, and fails where its broker is away."""
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
    where trying does not help, its caller gets an error, and says so itself. Tracebacks stay errors, but for what
    failed after its caller had given it up.
    """

    def __init__(self, level: str = "WARNING") -> None:
        """Start with nothing said. `level` is what libraries speak up from: the client's own level is not the one told."""
        super().__init__()
        self._level = logging.getLevelNamesMapping()[level]
        self._conditions: dict[tuple[str, str], _Condition] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is to be told; one of the client may come out changed."""
        if (given_up := _error_given_up(record)) is not None:
            record.name, record.msg = _KAFKA_CLIENT, GIVEN_UP
            record.args = (given_up,)
            record.exc_info = record.exc_text = None
        if record.name.split(".")[0] != _KAFKA_CLIENT:
            return True
        if record.msg == CHOSEN or record.msg in TOLD_BY_ITS_CALLER:
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


def _error_given_up(record: logging.LogRecord) -> BaseException | None:
    """Return the client's own error that asyncio tells of, where a task of the client's ended in it and nobody took it."""
    error = record.exc_info[1] if record.exc_info else None
    is_of_client = f"{os.sep}{_KAFKA_CLIENT}{os.sep}" in str(record.msg)
    is_client_error = type(error).__module__.startswith(f"{_KAFKA_CLIENT}.")
    return error if record.name == "asyncio" and is_of_client and is_client_error else None


class OfRequest(logging.Filter):
    """Puts the id of the request that a line is written for on the line: `request_id`, and `of_request` for a person."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mark a line and let it through. An id that whoever logs has given himself stays."""
        given = getattr(record, "request_id", None) or request_id.current.get()
        record.request_id = given
        record.of_request = "" if given is None else f" [request {given}]"
        return True


class JsonLines(logging.Formatter):
    """Writes a line as one JSON object, whatever is in it.

    It has the time in UTC (RFC 3339), level, logger and message; and where there are any, the id of a request, an exception
    with its traceback in one text, and the `fields` of whoever logs. All of it is ASCII, so no locale and no stray line
    separator (U+2028) can break it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record)[:MESSAGE_CHARS_MAX],
        }
        if (of := getattr(record, "request_id", None)) is not None:
            line["request_id"] = of
        line |= {
            name: value for name, value in getattr(record, "fields", _NO_FIELDS).items() if name not in line
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = self.formatException(record.exc_info)[-EXCEPTION_CHARS_MAX:]
        if record.stack_info:
            line["stack"] = record.stack_info[-EXCEPTION_CHARS_MAX:]
        return json.dumps(line, default=str)


_NO_FIELDS: Mapping[str, object] = {}


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        # A line whose parts do not fit together says more than none, which would come as a traceback over many lines.
        return f"{record.msg} {record.args!r}"


def config(level: str, form: str = LogFormat.TEXT) -> dict[str, Any]:
    """Return a `logging.config` dictionary for a level and a format; libraries speak up from warnings on."""
    quiet = "WARNING" if level.upper() in ("DEBUG", "INFO") else level.upper()
    text = {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s%(of_request)s"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": JsonLines} if form == LogFormat.JSON else text},
        "filters": {"client": {"()": ClientLines, "level": quiet}, "request": {"()": OfRequest}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "filters": ["client", "request"],
            }
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


def configure(level: str, form: str = LogFormat.TEXT) -> None:
    """Set logging up for this process. As JSON, what would come as a bare traceback or warning is a line as well."""
    logging.config.dictConfig(config(level, form))
    if form == LogFormat.JSON:
        logging.captureWarnings(True)
        sys.excepthook = _tell_end
        threading.excepthook = _tell_end_of_thread
        sys.unraisablehook = _tell_unraisable


def format_of(environment: Mapping[str, str]) -> LogFormat:
    """Return the format that an environment asks for, before its settings are read: they refuse what is none."""
    return LogFormat.JSON if environment.get("METERING_LOG_FORMAT") == LogFormat.JSON else LogFormat.TEXT


def _tell_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    log.critical("the process ends: %s: %s", kind.__name__, error, exc_info=(kind, error, trace))


def _tell_end_of_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is not None and told.exc_type is not SystemExit:
        log.error(
            "a thread ends: %r", told.exc_value, exc_info=(told.exc_type, told.exc_value, told.exc_traceback)
        )


def _tell_unraisable(told: sys.UnraisableHookArgs) -> None:
    if told.exc_value is not None:
        log.error(
            "%s: %r",
            told.err_msg or "an error that nobody could take",
            told.exc_value,
            exc_info=(told.exc_type, told.exc_value, told.exc_traceback),
        )
