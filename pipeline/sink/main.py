"""The sink as a process of its own (`metering sink`).

Called by: `cli/roles.py`.
"""

from __future__ import annotations

import asyncio
import signal

import uvloop

from pipeline import logs, status_server
from pipeline.clickhouse.client import open_engine
from pipeline.kafka.attempts import ClientCancelledError
from pipeline.settings import MissingSettingError, SinkSettings
from pipeline.sink.sink import Sink
from pipeline.status_server import RoleStatus


def main(settings: SinkSettings) -> int:
    """Run the sink until it is told to stop; the exit code. An unexpected error is raised."""
    logs.configure(settings.log_level)
    if settings.clickhouse_url is None:
        raise MissingSettingError("METERING_CLICKHOUSE_URL is not set")
    engine = open_engine(settings.clickhouse_url)
    sink = Sink(settings, engine)
    status = RoleStatus(lambda: {"sink": sink.problem})
    status_server.serve(settings.host, settings.worker_port, status)
    uvloop.run(run_until_stopped(sink, status))
    return 0


async def run_until_stopped(sink: Sink, status: RoleStatus) -> None:
    """Run the sink until SIGTERM or SIGINT. Raises what ends it before, a cancellation that nobody asked for too."""
    task = asyncio.create_task(sink.run())
    beating = asyncio.create_task(status.beat())

    def stop() -> None:
        status.stop()
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not task.cancelling():
            raise ClientCancelledError from None
    finally:
        beating.cancel()
