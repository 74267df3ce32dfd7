"""Write the Grafana board: what to look at first, then each part of the pipeline.

Owns: how a panel looks, and the order of the rows. The panels are in `charging.py`, `promises.py`, `reporting.py`, `money.py`
and `processes.py` beside it; their queries use the metrics of `pipeline/telemetry.py` and `pipeline/api/http/metrics.py`.
Called by: a person, after a change here; `tests/deploy` checks that the JSON is up to date.

    python deploy/grafana/board.py            writes deploy/grafana/dashboards/metering.json
    python deploy/grafana/board.py --check    exit 1 where that file differs
"""

from __future__ import annotations

import sys
from pathlib import Path

from charging import FIRST, PARTITIONS, WORKER
from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    GridPos,
    Threshold,
    ThresholdsMode,
)
from graphs import Graph
from money import MAIL, PAYMENTS
from processes import PROCESSES
from promises import PROMISES
from reporting import API, SINK

BOARD = Path(__file__).parent / "dashboards" / "metering.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
WIDTH, HEIGHT = 24, 8

ROWS = (FIRST, PROMISES, WORKER, PARTITIONS, SINK, API, PAYMENTS, MAIL, PROCESSES)


def panel(graph: Graph, number: int, place: GridPos) -> timeseries.Panel:
    """Return a graph as Grafana has it."""
    made = (
        timeseries.Panel()
        .id(number)
        .title(graph.title)
        .description(f"{graph.tells} Runbook: {graph.runbook}." if graph.runbook else graph.tells)
        .datasource(SOURCE)
        .unit(graph.unit)
        .min(0)
        .line_width(1)
        .fill_opacity(8)
        .grid_pos(place)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if graph.alerts_above is not None:
        made = made.thresholds(
            dashboard.ThresholdsConfig()
            .mode(ThresholdsMode.ABSOLUTE)
            .steps([Threshold(color="transparent"), Threshold(value=graph.alerts_above, color="red")])
        ).thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    for letter, query in zip("ABCDEFGH", graph.queries, strict=False):
        target = prometheus.Dataquery().expr(query.expression).legend_format(query.legend).ref_id(letter)
        made.with_target(target.datasource(SOURCE))
    return made


def board() -> str:
    """Return the board as JSON."""
    made = (
        dashboard.Dashboard("Metering")
        .uid("metering")
        .description("Charging, reporting and serving. The first row answers whether all is well.")
        .tags(["metering"])
        .timezone("Asia/Kolkata")
        .refresh("10s")
        .time("now-1h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    number, y = 0, 0
    for row in ROWS:
        number += 1
        made.with_row(dashboard.Row(row.title).id(number).grid_pos(GridPos(h=1, w=WIDTH, x=0, y=y)))
        y += 1
        for start in range(0, len(row.graphs), 4):
            line = row.graphs[start : start + 4]
            width = WIDTH // len(line)
            for column, graph in enumerate(line):
                number += 1
                made.with_panel(panel(graph, number, GridPos(h=HEIGHT, w=width, x=column * width, y=y)))
            y += HEIGHT
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"


def main() -> int:
    """Write the board, or check the written one; the exit code."""
    made = board()
    if "--check" in sys.argv[1:]:
        return 0 if BOARD.read_text(encoding="utf-8") == made else 1
    BOARD.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
