"""The Grafana board: its panels ask for metrics that exist, explain themselves and do not overlap."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from itertools import combinations
from math import prod
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.board.panels import Target, panels
from tests.support.deploy import (
    DEPLOY,
    ROOT,
    anchors,
    metrics_exposed,
    metrics_recorded,
    metrics_used,
    read_yaml,
)
from tests.support.prometheus import program

BOARD: dict[str, Any] = json.loads(
    (DEPLOY / "grafana" / "dashboards" / "metering.json").read_text(encoding="utf-8")
)
PANELS: list[dict[str, Any]] = BOARD["panels"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in GRAPHS for target in panel["targets"]]
COLUMNS = 24
CATALOGUE = runpy.run_path(str(ROOT / "docs" / "metrics.py"))


def test_every_panel_asks_for_metrics_that_exist() -> None:
    used = set().union(*map(metrics_used, EXPRESSIONS))
    there = metrics_exposed() | metrics_recorded()
    assert used <= there, f"no such metrics: {sorted(used - there)}"


def test_every_metric_of_the_product_is_on_the_board() -> None:
    families = {
        name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in metrics_exposed()
    }
    text = " ".join(EXPRESSIONS)
    assert [name for name in sorted(families) if name not in text] == []


def test_the_first_row_answers_whether_all_is_well() -> None:
    assert [panel["title"] for panel in PANELS[1:5]] == [
        "Events a second",
        "Seconds behind",
        "Dead letters a minute",
        "Rupees a minute debited",
    ]


def test_every_panel_explains_itself() -> None:
    for panel in GRAPHS:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    titles = [panel["title"] for panel in GRAPHS]
    assert len(set(titles)) == len(titles) > 40


def test_a_panel_tells_the_runbook_of_what_alerts_on_it() -> None:
    told = [re.findall(r"Runbook: (\S+)\.$", panel["description"]) for panel in GRAPHS]
    runbooks = [each for found in told for each in found]
    assert len(runbooks) > 15
    for each in runbooks:
        document, _, anchor = each.partition("#")
        assert anchor in anchors(ROOT / document), each


def test_a_line_across_a_panel_is_where_an_alert_begins() -> None:
    across = 0
    for panel in GRAPHS:
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {"steps": []})["steps"]
        limits = [step["value"] for step in steps if step["value"] is not None]
        families = {
            name.removesuffix("_bucket") for target in panel["targets"] for name in _named(target["expr"])
        }
        begins = {
            prod(map(float, limit.split("*")))
            for alert in CATALOGUE["alerts"]()
            if any(name in alert.expression for name in families)
            for limit in re.findall(r"> ([\d. *]+)", alert.expression)
        }
        assert set(limits) <= begins, panel["title"]
        across += len(limits)
    assert across > 8


def _named(expression: str) -> set[str]:
    return metrics_used(expression) | set(re.findall(r"process_\w+", expression))


def test_every_query_is_promql_when_its_variables_are_filled_in(tmp_path: Path) -> None:
    promtool = program("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: `make promtool` fetches it where apt can")
    rules = [
        {"record": f"board:{number}", "expr": target.asked(scrape_s=10, step_s=15)}
        for number, target in enumerate(target for panel in panels() for target in panel.targets)
    ]
    file = tmp_path / "board.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}), encoding="utf-8")
    ran = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("step_s", "over"), [(10, "40s"), (30, "40s"), (60, "70s")], ids=("an hour", "some hours", "a day")
)
def test_rates_are_over_four_scrapes_or_a_step_and_a_scrape(step_s: int, over: str) -> None:
    assert Target("rate(a[$__rate_interval])", "").asked(10, step_s) == f"rate(a[{over}])"
    with pytest.raises(ValueError, match="a variable is left"):
        Target("a{b=$c}", "").asked(10, 10)


def test_a_legend_names_labels_that_its_query_keeps() -> None:
    """`sum by (a) (...)` keeps `a`; what is not grouped keeps what Prometheus adds: job and instance."""
    for panel in panels():
        for target in panel.targets:
            grouped = re.search(r"by \(([\w, ]+)\)", target.expression)
            kept = set(grouped[1].split(", ")) if grouped else {"job", "instance"}
            assert set(re.findall(r"{{(\w+)}}", target.legend)) <= kept, (panel.name, target.legend)


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in PANELS]
    assert len(ids) == len(set(ids))
    for one, other in combinations((panel["gridPos"] for panel in PANELS), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or apart, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= COLUMNS for panel in PANELS)


def test_the_data_source_is_chosen_on_the_board() -> None:
    (variable,) = BOARD["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    for panel in GRAPHS:
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert {source["uid"] for source in sources} == {"$datasource"}


def test_the_board_keeps_its_address() -> None:
    assert BOARD["uid"] == "metering"
    assert BOARD["timezone"] == "Asia/Kolkata"


def test_grafana_finds_board_and_data_source() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (provider,) = read_yaml(provisioning / "dashboards" / "metering.yml")["providers"]
    compose = read_yaml(DEPLOY.parent / "docker-compose.yml")["services"]["grafana"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in compose["volumes"]
    (source,) = read_yaml(provisioning / "datasources" / "prometheus.yml")["datasources"]
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"


def test_the_board_is_what_its_program_makes() -> None:
    if find_spec("grafana_foundation_sdk") is None:
        pytest.skip("grafana-foundation-sdk is not installed; the board is checked as it stands")
    made_by = DEPLOY / "grafana" / "board.py"
    ran = subprocess.run([sys.executable, str(made_by), "--check"], check=False)
    assert ran.returncode == 0, f"run {made_by} and commit what it writes"
