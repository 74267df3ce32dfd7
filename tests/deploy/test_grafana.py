"""The Grafana board: its panels ask for metrics that exist, explain themselves and do not overlap."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from itertools import combinations
from typing import Any

import pytest

from tests.support.deploy import DEPLOY, metrics_exposed, metrics_recorded, metrics_used, read_yaml

BOARD: dict[str, Any] = json.loads(
    (DEPLOY / "grafana" / "dashboards" / "metering.json").read_text(encoding="utf-8")
)
PANELS: list[dict[str, Any]] = BOARD["panels"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in GRAPHS for target in panel["targets"]]
COLUMNS = 24


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
    assert len(GRAPHS) > 20
    assert titles.count("Behind, by partition") == 2


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
    program = DEPLOY / "grafana" / "board.py"
    ran = subprocess.run([sys.executable, str(program), "--check"], check=False)
    assert ran.returncode == 0, f"run {program} and commit what it writes"
