"""The sink as a process of its own (`metering sink`).

Called by: `cli/roles.py`.
"""

from __future__ import annotations

import uvloop

from pipeline import logs, status_server, telemetry
from pipeline.clickhouse.shards import open_database
from pipeline.exposition import MetricsText
from pipeline.settings import MissingSettingError, SinkSettings
from pipeline.sink.sink import Sink
from pipeline.status_server import RoleStatus, run_until_stopped


def main(settings: SinkSettings) -> int:
    """Run the sink until it is told to stop; the exit code. An unexpected error is raised."""
    logs.configure(settings.log_level, settings.log_format)
    if settings.clickhouse_url is None:
        raise MissingSettingError("METERING_CLICKHOUSE_URL is not set")
    sink = Sink(settings, open_database(settings.clickhouse_url, settings.clickhouse_tls))
    status = RoleStatus(lambda: {"sink": sink.problem})
    metrics = MetricsText(telemetry.shown_by("sink"))
    status_server.serve(settings.host, settings.worker_port, status, metrics)
    uvloop.run(run_until_stopped(sink.run(), status))
    return 0
