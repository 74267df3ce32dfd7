"""The runbooks as far as they can be looked at without running anything: their commands, and which of them were walked."""

from __future__ import annotations

import ast
import re
import shlex
from typing import Any

import pytest

from tests.support.deploy import DEPLOY, ROOT, read_yaml
from tests.support.runbooks.hands import CLASSES, SERVICES
from tests.support.runbooks.hurried import hurried, hurried_expression, hurried_record
from tests.support.runbooks.sections import FILE, commands, is_command

ROW = re.compile(r"^\| (Metering\w+) \| (.+?) \| (.+?) \|$", re.MULTILINE)
WALKED = {alert: (test, how) for alert, test, how in ROW.findall(FILE.read_text(encoding="utf-8"))}
"""What the page says of each alert: the test that walks it in code, or «not», and with what, or why not."""
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for name in read_yaml(DEPLOY / "prometheus" / "prometheus.yml")["rule_files"]
    for group in read_yaml(DEPLOY / "prometheus" / name)["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


def walks() -> dict[str, str]:
    """Return the source of each test in tests/runbooks by its name."""
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "runbooks").glob("test_*.py"))
    return {
        node.name: ast.unparse(node)
        for source in sources
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
    }


def test_the_page_says_of_every_alert_how_it_was_walked_or_why_not() -> None:
    assert WALKED.keys() == ALERTS.keys()


@pytest.mark.parametrize("alert", ALERTS)
def test_what_walks_an_alert_is_there_and_waits_for_it(alert: str) -> None:
    test, how = WALKED[alert]
    assert len(how) > 10
    if test != "not":
        assert f"'{alert}'" in walks()[test.strip("`")]


def test_every_walk_is_on_the_page() -> None:
    told = {test.strip("`") for test, _ in WALKED.values()} - {"not"}
    assert {name for name in walks() if name.startswith("test_")} == told


@pytest.mark.parametrize("command", commands(), ids=lambda each: f"{each.alert} {each.text}")
def test_a_command_of_a_runbook_is_one_that_somebody_can_run(command: Any) -> None:
    program, *arguments = shlex.split(command.text)
    if program.endswith(".sh"):
        assert program in CLASSES
    if (program, *arguments[:1]) == ("docker", "compose"):
        assert arguments[1] in ("ps", "logs", "run")
        named = [
            each for each in arguments[2:] if each.islower() and each.isalpha() and arguments[1] != "run"
        ]
        assert set(named) <= SERVICES


def test_what_is_no_command_is_told_apart() -> None:
    assert not any(is_command(text) for text in ("metering", "metering.events", "status", "kafka", "up"))
    assert is_command("kafka-topics.sh --describe") and is_command("status 8001")


def test_rules_in_a_hurry_ask_the_same_in_less_time() -> None:
    assert [hurried(each) for each in ("30s", "1m", "15m", "1h")] == ["2s", "3s", "45s", "180s"]
    asked = (
        'sum(rate(x{a="b"}[5m])) > 2.5 unless y offset 15m and (time() - process_start_time_seconds < 900)'
    )
    short = (
        'sum(rate(x{a="b"}[15s])) > 2.5 unless y offset 45s and (time() - process_start_time_seconds < 45)'
    )
    assert hurried_expression(asked) == short
    assert hurried_expression("time() - x > 26 * 3600") == "time() - x > 26 * 2"
    assert hurried_expression("time() - x > 26 * 3600", hours_stay=True) == "time() - x > 26 * 3600"
    assert (
        hurried_expression("predict_linear(x[6h], 4 * 86400) < 0") == "predict_linear(x[1080s], 4 * 4320) < 0"
    )
    assert hurried_expression("max(x) > 120") == "max(x) > 120"
    assert hurried_record("rate(x[5m]) / rate(x[6h])") == "rate(x[15s]) / rate(x[90s])"
    assert hurried_record("time() - x < 900 and x offset 15m") == "time() - x < 900 and x offset 45s"
