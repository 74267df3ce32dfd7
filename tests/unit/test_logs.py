"""What the Kafka client says is told once a condition, with a count, and our own lines are left alone."""

from __future__ import annotations

import io
import logging
import logging.config

import pytest

from pipeline.logs import AGAIN_S, PATIENCE_S, ClientLines, config

LOST = "Unable connect to node with id %s: %s"
[NEW_GROUP] = PATIENCE_S


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
