"""The panels of the board, and their queries as Grafana would send them.

Owns: reading deploy/grafana/dashboards/metering.json, and what stands for Grafana's variables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.deploy import DEPLOY

BOARD = DEPLOY / "grafana" / "dashboards" / "metering.json"
_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class Target:
    """One query of a panel: its PromQL with Grafana's variables in it, and how its lines are named."""

    expression: str
    legend: str

    def asked(self, scrape_s: int, step_s: int) -> str:
        """Return the PromQL that Grafana would send. Raises ValueError where a variable is left.

        `$__rate_interval` is what Grafana makes it: four scrapes, or the step and a scrape where that is more.
        """
        rate_s = max(4 * scrape_s, step_s + scrape_s)
        asked = self.expression.replace("$__rate_interval", f"{rate_s}s").replace("$__interval", f"{step_s}s")
        if "$" in asked:
            raise ValueError(f"a variable is left in {asked}")
        return asked

    def line_name(self, labels: Mapping[str, str]) -> str:
        """Return what a line is called. Raises KeyError where the legend names a label that the series does not have."""
        return _LABEL.sub(lambda found: labels[found[1]], self.legend)


@dataclass(frozen=True)
class Place:
    """Where a panel is on the board: columns of 24, and heights of Grafana's 30 px."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Panel:
    """One panel: the row that it stands in, what it says, and its queries. `thresholds` are lines across it."""

    row: str
    title: str
    unit: str
    targets: tuple[Target, ...]
    place: Place
    thresholds: tuple[float, ...]

    @property
    def name(self) -> str:
        """Row and title, which together name one panel."""
        return f"{self.row}: {self.title}"


def panels() -> list[Panel]:
    """Return every panel of the board, from the top."""
    found: list[Panel] = []
    row = ""
    for panel in json.loads(BOARD.read_text(encoding="utf-8"))["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            continue
        at, defaults = panel["gridPos"], panel["fieldConfig"]["defaults"]
        steps = defaults.get("thresholds", {}).get("steps", ())
        found.append(
            Panel(
                row,
                panel["title"],
                defaults["unit"],
                tuple(Target(each["expr"], each["legendFormat"]) for each in panel["targets"]),
                Place(at["x"], at["y"], at["w"], at["h"]),
                tuple(step["value"] for step in steps if step["value"] is not None),
            )
        )
    return found
