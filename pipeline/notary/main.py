"""The notary as a process of its own (`metering notary`).

Called by: `cli/roles.py`. Next: `notary/notary.py`.
"""

from __future__ import annotations

import uvloop

from pipeline import logs, status_server, telemetry
from pipeline.exposition import MetricsText
from pipeline.notary.checkpoint import NotaryKeys
from pipeline.notary.notary import Notary
from pipeline.settings import MissingSettingError, NotarySettings
from pipeline.status_server import RoleStatus, run_until_stopped


def main(settings: NotarySettings) -> int:
    """Run the notary until it is told to stop; the exit code. An unexpected error is raised."""
    logs.configure(settings.log_level, settings.log_format)
    if settings.notary_key is None:
        raise MissingSettingError("METERING_NOTARY_KEY is not set")
    notary = Notary(settings, NotaryKeys.parse(settings.notary_key.get_secret_value()))
    status = RoleStatus(lambda: {"notary": notary.problem})
    metrics = MetricsText(telemetry.shown_by("notary"))
    status_server.serve(settings.host, settings.worker_port, status, metrics)
    uvloop.run(run_until_stopped(notary.run(), status))
    return 0
