"""Log lines: what the Kafka client says is told once a condition, and as JSON every line is one object."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import logging.config
import os
import re
import subprocess
import sys
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import OffsetAndMetadata

from pipeline import request_id
from pipeline.logs import AGAIN_S, CHOSEN, MESSAGE_CHARS_MAX, PATIENCE_S, ClientLines, config, format_of
from pipeline.settings import CommonSettings

LOST = "Unable connect to node with id %s: %s"
NEW_GROUP, LOADING = PATIENCE_S


class _Lines:
    """A filter and what it let through."""

    def __init__(self) -> None:
        self._filter = ClientLines()
        self.told: list[str] = []

    def say(
        self, at_s: float, text: str, *args: object, name: str = "aiokafka", level: int = logging.ERROR
    ) -> None:
        record = logging.LogRecord(name, level, "client.py", 1, text, args, None)
        record.created = at_s
        if self._filter.filter(record):
            self.told.append(f"{record.levelname} {record.getMessage()}")


def test_a_lost_broker_is_one_warning_a_minute_with_a_count() -> None:
    lines = _Lines()
    for hundredth in range(int(AGAIN_S) * 100 + 1):
        lines.say(1000 + hundredth / 100, LOST, 1, "refused")
    assert lines.told == [
        "WARNING Unable connect to node with id 1: refused",
        "WARNING Unable connect to node with id 1: refused (and 5999 like it before)",
    ]


def test_conditions_are_told_each_by_itself() -> None:
    lines = _Lines()
    lines.say(1000, LOST, 1, "refused")
    lines.say(1001, "Heartbeat failed: %r", "RebalanceInProgress")
    assert lines.told == [
        "WARNING Unable connect to node with id 1: refused",
        "WARNING Heartbeat failed: 'RebalanceInProgress'",
    ]


def test_a_broker_that_is_new_to_a_group_is_told_only_when_it_goes_on() -> None:
    lines = _Lines()
    for second in range(int(PATIENCE_S[NEW_GROUP])):
        lines.say(1000 + second, NEW_GROUP, "[Error 15]", name="aiokafka.consumer.group_coordinator")
    assert lines.told == []
    lines.say(
        1000 + PATIENCE_S[NEW_GROUP], NEW_GROUP, "[Error 15]", name="aiokafka.consumer.group_coordinator"
    )
    assert lines.told == ["WARNING Group Coordinator Request failed: [Error 15] (and 10 like it before)"]


def test_a_broker_that_loads_a_group_first_is_nothing_to_tell() -> None:
    lines = _Lines()
    lines.say(1000, LOADING, 1, "metering-notary", name="aiokafka.consumer.group_coordinator")
    assert lines.told == []


def test_what_a_setting_chose_is_not_told_at_each_connection() -> None:
    lines = _Lines()
    lines.say(1000, CHOSEN, name="aiokafka.conn", level=logging.WARNING)
    assert lines.told == []


def test_what_comes_back_after_a_quiet_time_is_told_at_once() -> None:
    lines = _Lines()
    lines.say(1000, LOST, 1, "refused")
    lines.say(1001, LOST, 1, "refused")
    lines.say(1002 + AGAIN_S, LOST, 1, "refused")
    assert len(lines.told) == 2
    assert lines.told[1] == "WARNING Unable connect to node with id 1: refused"


def test_our_own_lines_and_tracebacks_stay_as_they_are() -> None:
    lines = _Lines()
    for _ in range(2):
        lines.say(1000, "worker ends", name="pipeline.worker.app", level=logging.CRITICAL)
    assert lines.told == ["CRITICAL worker ends"] * 2
    failed = logging.LogRecord(
        "aiokafka", logging.ERROR, "client.py", 1, "failed", (), (OSError, OSError("x"), None)
    )
    assert ClientLines().filter(failed)
    assert failed.levelname == "ERROR"


def _commit_refused() -> Coroutine[Any, Any, None]:
    """What the client leaves behind where a commit is given up: it goes on, and fails where its broker is away."""

    async def refused(_request: object) -> None:
        raise KafkaConnectionError("closed")

    member = SimpleNamespace(group_id="g", generation=1, member_id="m", coordinator_id=1, _send_req=refused)
    offsets = {TopicPartition("t", 0): OffsetAndMetadata(1, "")}
    commit: Coroutine[Any, Any, None] = GroupCoordinator._do_commit_offsets(cast(Any, member), None, offsets)
    return commit


async def _ours_refused() -> None:
    raise KafkaConnectionError("closed")


def _told_of(coroutine: Coroutine[Any, Any, None], caplog: pytest.LogCaptureFixture) -> str:
    """Return the first line that is told of a task which fails while nobody waits for it."""

    async def leave_it() -> None:
        task = asyncio.ensure_future(coroutine)
        await asyncio.wait({task})
        del task
        gc.collect()

    asyncio.run(leave_it())
    [record] = [record for record in caplog.records if record.name == "asyncio"]
    assert ClientLines().filter(record)
    return logging.Formatter("%(levelname)s %(name)s: %(message)s").format(record).splitlines()[0]


def test_what_the_client_failed_at_after_it_was_given_up_is_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = _told_of(_commit_refused(), caplog)
    assert told == (
        "WARNING aiokafka: a request that nobody waits for any more had failed: KafkaConnectionError: closed"
    )


def test_a_task_of_ours_that_nobody_waits_for_stays_an_error(caplog: pytest.LogCaptureFixture) -> None:
    assert _told_of(_ours_refused(), caplog) == "ERROR asyncio: Task exception was never retrieved"


@pytest.mark.parametrize(("asked", "told"), [("info", 1), ("error", 0)])
def test_the_filter_is_in_every_process(asked: str, told: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where errors alone are asked for, what comes out as a warning is not told."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logging.config.dictConfig(config(asked))
        for _ in range(100):
            logging.getLogger("aiokafka").error(LOST, 1, "refused")
    finally:
        root.handlers, root.level = handlers, level
    assert stream.getvalue().count("Unable connect") == told


_IN_A_PROCESS = """
import logging, sys, threading, warnings
from pipeline import logs, request_id
logs.configure("info", "json")
said = logging.getLogger("pipeline.test")
request_id.current.set("request-77")
said.info("a line\\nwith a break and \\u0915\\u2028 and \\ud800", extra={"fields": {"status": 503, "level": "mine"}})
said.info("two of %s and %d", "three")
try:
    raise ValueError("in\\nside")
except ValueError:
    said.exception("it failed")
request_id.current.set(None)
said.warning("of another request", extra={"request_id": "request-78"})
logging.getLogger("uvicorn.error").error("uvicorn speaks")
logging.getLogger("aiokafka").error("Unable to do it")
warnings.warn("something is old")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start(); thread.join()
said.info("x" * 10_000)
raise RuntimeError("nobody expected this")
"""


@pytest.fixture(scope="module")
def told() -> list[dict[str, Any]]:
    """Return the lines of a process that logs as JSON and ends at an error that nobody takes."""
    ran = subprocess.run(
        [sys.executable, "-c", _IN_A_PROCESS], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (1, ""), ran.stderr
    assert ran.stderr.isascii()
    return [json.loads(line) for line in ran.stderr.splitlines()]


def test_as_json_each_line_is_one_object_whatever_is_in_it(told: list[dict[str, Any]]) -> None:
    for line in told:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert {"level", "logger", "message"} <= line.keys()
    first = {name: value for name, value in told[0].items() if name != "time"}
    assert first == {
        "level": "INFO",
        "logger": "pipeline.test",
        "message": "a line\nwith a break and \u0915\u2028 and \ud800",
        "request_id": "request-77",
        "status": 503,
    }
    assert told[1]["message"] == "two of %s and %d ('three',)"
    assert [len(line["message"]) for line in told if line["message"].startswith("xxx")] == [MESSAGE_CHARS_MAX]


def test_as_json_an_exception_is_a_field_of_its_line(told: list[dict[str, Any]]) -> None:
    failed = told[2]
    assert (failed["level"], failed["message"], failed["request_id"]) == ("ERROR", "it failed", "request-77")
    assert failed["exception"].startswith("Traceback (most recent call last):\n")
    assert failed["exception"].endswith("ValueError: in\nside")


def test_as_json_libraries_and_what_ends_a_thread_or_the_process_are_lines_too(
    told: list[dict[str, Any]],
) -> None:
    by_logger = {(line["logger"], line["message"].split("\n")[0]): line for line in told}
    assert by_logger["uvicorn.error", "uvicorn speaks"]["level"] == "ERROR"
    assert by_logger["aiokafka", "Unable to do it"]["level"] == "WARNING"
    assert any(
        logger == "py.warnings" and "something is old" in line["message"]
        for (logger, _), line in by_logger.items()
    )
    thread = by_logger["pipeline.logs", "a thread ends: ZeroDivisionError('division by zero')"]
    assert "ZeroDivisionError" in thread["exception"]
    assert told[3]["request_id"] == "request-78"
    last = told[-1]
    assert (last["level"], last["message"]) == (
        "CRITICAL",
        "the process ends: RuntimeError: nobody expected this",
    )
    assert last["exception"].endswith("RuntimeError: nobody expected this")
    assert not any("request_id" in line for line in told[4:])


def test_as_text_a_line_ends_in_the_id_of_its_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    mine = request_id.current.set("request-77")
    try:
        logging.config.dictConfig(config("info"))
        logging.getLogger("pipeline.test").info("a line")
        request_id.current.set(None)
        logging.getLogger("pipeline.test").info("another")
    finally:
        request_id.current.reset(mine)
        root.handlers, root.level = handlers, level
    assert [line.partition("pipeline.test: ")[2] for line in stream.getvalue().splitlines()] == [
        "a line [request request-77]",
        "another",
    ]


@pytest.mark.parametrize(("given", "form"), [({}, "text"), ({"METERING_LOG_FORMAT": "json"}, "json")])
def test_before_the_settings_are_read_the_environment_says_the_format(
    given: dict[str, str], form: str
) -> None:
    assert format_of(given) == form
    assert CommonSettings.model_fields["log_format"].default == "text"


def test_a_command_that_cannot_run_says_so_in_a_json_line_where_lines_are_json() -> None:
    environment = {**os.environ, "METERING_LOG_FORMAT": "json", "METERING_PARTITIONS": "none"}
    ran = subprocess.run(
        [sys.executable, "-m", "pipeline", "sink", "--data-dir", "/nowhere"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1
    [line] = [json.loads(line) for line in ran.stderr.splitlines()]
    assert (line["level"], line["message"][:20]) == ("CRITICAL", "METERING_PARTITIONS:")
