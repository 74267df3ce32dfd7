"""The deployment's own rules in a hurry: what they wait for in minutes, they wait for in some seconds.

Owns: how `for`, windows, intervals and ages in hours are shortened; nothing else of a rule changes, thresholds neither.
Called by: tests/runbooks.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests.support.deploy import DEPLOY, read_yaml

HURRY = 20
"""A minute is three seconds: long enough for a window of five minutes to hold some scrapes, one every other second."""
SCRAPE = "2s"
"""How often everything is asked for its metrics, and every rule is evaluated."""
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST_S = 90
"""The most that a recorded rule looks back, half an hour's: nobody waits for three days' budget to be there again."""
_WINDOW = re.compile(r"(?<=\[)(\d+)([smhd])(?=\])|(?<=offset )(\d+)([smhd])")
_YOUNG = re.compile(r"(?<=process_start_time_seconds < )\d+")
_HOURS = re.compile(r"(\d+) \* 3600")
_AHEAD = re.compile(r"(\d+) \* 86400")
"""How far ahead something is foretold, in days."""


def hurried(text: str) -> str:
    """Return a duration of a rule, as 5m, shortened."""
    return f"{max(1, round(int(text[:-1]) * SECONDS[text[-1]] / HURRY))}s"


def hurried_record(expression: str) -> str:
    """Return the expression of a recorded rule with windows that are shorter, and none longer than LONGEST_S."""
    capped = _WINDOW.sub(lambda found: f"{min(LONGEST_S, int(hurried(found[0])[:-1]))}s", expression)
    return _YOUNG.sub(lambda found: str(int(found[0]) // HURRY), capped)


def hurried_expression(expression: str, *, hours_stay: bool = False) -> str:
    """Return an expression with shorter windows. Ages told in hours become twice as many seconds: nobody waits for a day here.

    `hours_stay` is for what is of other days already.
    """
    short = _WINDOW.sub(lambda found: hurried(found[0]), expression)
    short = _YOUNG.sub(lambda found: str(int(found[0]) // HURRY), short)
    short = _AHEAD.sub(lambda found: f"{found[1]} * {SECONDS['d'] // HURRY}", short)
    return short if hours_stay else _HOURS.sub(r"\1 * 2", short)


def write_hurried_rules(home: Path, *, hours_stay: bool = False) -> list[Path]:
    """Write the rule files of the deployment, shortened, into a folder; return where they are."""
    written = []
    for name in read_yaml(DEPLOY / "prometheus" / "prometheus.yml")["rule_files"]:
        content = read_yaml(DEPLOY / "prometheus" / name)
        for group in content["groups"]:
            if "interval" in group:
                group["interval"] = hurried(group["interval"])
            group["rules"] = [_hurried_rule(rule, hours_stay) for rule in group["rules"]]
        written.append(home / name)
        written[-1].write_text(yaml.safe_dump(content), encoding="utf-8")
    return written


def _hurried_rule(rule: dict[str, Any], hours_stay: bool) -> dict[str, Any]:
    if "record" in rule:
        return {**rule, "expr": hurried_record(rule["expr"])}
    waits = {"for": hurried(rule["for"])} if "for" in rule else {}
    return {**rule, "expr": hurried_expression(rule["expr"], hours_stay=hours_stay), **waits}
