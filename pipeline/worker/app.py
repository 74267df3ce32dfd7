"""The Faust app of the worker: the agents, the reader service, and how the process ends.

Owns: the wiring. Batches come from `worker/service.py` through two channels; each agent carries out the
units of its kind. Faust's own consumer and tables are not used: docs/adr/0001-faust-without-tables.md.
Called by: `cli/roles.py` (`metering worker`).

An unexpected error ends the process at once with exit code 70, before anything more is committed; the
next owner of its partitions restores them from what was.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faust
import uvloop
from faust.app.base import BootStrategy as FaustBootStrategy

from pipeline import logs, status_server, telemetry, topics
from pipeline.exposition import MetricsText
from pipeline.kafka.attempts import ClientCancelledError, is_cancelled
from pipeline.kafka.partitions import PartitionsError
from pipeline.kafka.refused import in_one_line
from pipeline.settings import WorkerSettings
from pipeline.status_server import RoleStatus
from pipeline.worker.service import PartitionReader, PendingUnit

log = logging.getLogger(__name__)

AGENTS = 16
"""Units of different partitions that may be under way at once; those of one partition take turns."""
GARBAGE_OBJECTS = 20_000
EXIT_SOFTWARE = 70
"""sysexits.h EX_SOFTWARE: an error inside the program; a supervisor starts it again."""
EXIT_TO_BE_SET_RIGHT = 1
"""A setting, a right or a topic is wrong: no start helps before a person has set it right."""


class BootStrategy(FaustBootStrategy):
    """Start agents and services only. Reading and committing are done by `worker/service.py`, not by Faust."""

    enable_kafka = False
    enable_web = False


class App(faust.App):
    """A Faust app without Faust's Kafka."""

    BootStrategy = BootStrategy


def create_app(settings: WorkerSettings) -> tuple[App, PartitionReader, RoleStatus]:
    """Return the worker's app, its reader and what it says of itself. Nothing is connected before the app is started."""
    app = App(
        settings.deployment,
        broker=f"kafka://{settings.kafka_servers}",
        store="memory://",
        web_enabled=False,
        autodiscover=False,
        datadir=tempfile.gettempdir(),
    )
    requests = app.channel(maxsize=AGENTS)
    commands = app.channel(maxsize=AGENTS)
    channels = {topics.REQUESTS: requests, topics.MOVED: requests, topics.BILLING: commands}

    @app.agent(requests, concurrency=AGENTS)
    async def debit(units: faust.StreamT[PendingUnit]) -> None:
        """Charge requests, one unit of work at a time."""
        async for unit in units:
            with fatal():
                await unit.carry_out()

    @app.agent(commands, concurrency=AGENTS)
    async def billing(units: faust.StreamT[PendingUnit]) -> None:
        """Carry out commands, one unit of work at a time."""
        async for unit in units:
            with fatal():
                await unit.carry_out()

    # Faust types channels for its own events only.
    reader = PartitionReader(settings, channels)  # type: ignore[arg-type]
    status = RoleStatus(lambda: {"worker": reader.problem})

    @app.service
    class Reader(faust.Service):
        """Reads the partitions that the group assigns, for as long as the app runs."""

        @faust.Service.task
        async def _beat(self) -> None:
            await status.beat()

        async def on_start(self) -> None:
            """Let the channels flow: with Faust's Kafka off, nobody else does."""
            app.flow_control.resume()

        @faust.Service.task
        async def _read(self) -> None:
            with fatal():
                await reader.run()

    return app, reader, status


class Worker(faust.Worker):
    """A Faust worker that is not ready any more from the moment on that it is told to stop."""

    def __init__(self, app: App, status: RoleStatus, **options: Any) -> None:
        """Prepare; `options` are Faust's."""
        super().__init__(app, **options)
        self._status = status

    async def stop(self) -> None:
        """Stop, as a signal asks for."""
        self._status.stop()
        await super().stop()


def main(settings: WorkerSettings) -> int:
    """Run a worker until it is told to stop; the exit code."""
    logs.configure(settings.log_level, settings.log_format)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    app, _, status = create_app(settings)
    metrics = MetricsText(telemetry.shown_by("worker"))
    status_server.serve(settings.host, settings.worker_port, status, metrics)
    worker = Worker(
        app,
        status,
        loglevel=settings.log_level.upper(),
        logging_config=logs.config(settings.log_level, settings.log_format),
        quiet=True,
        loop=loop,
        redirect_stdouts=False,
    )
    # It moves the cursor of whatever stdout is, a file too.
    worker.spinner = None
    _collect_rarely()
    worker.execute_from_commandline()


def _collect_rarely() -> None:
    """Keep the garbage collector from walking through everything again and again.

    A unit makes some object an event that the collector counts, and next to no cycles. With its defaults it
    walks through all modules and accounts every seventy thousand events.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 20, 20)


@contextmanager
def fatal() -> Iterator[None]:
    """End the process at any error within: never only the agent or the service around it.

    A cancellation is no error where somebody cancelled the task that this runs in.
    """
    try:
        yield
    except asyncio.CancelledError:
        if is_cancelled():
            raise
        end_process(ClientCancelledError())
    except BaseException as error:  # noqa: BLE001  # whatever it is ends the process
        end_process(error)


def end_process(error: BaseException) -> None:
    """Log an error and end the process at once, so that nothing can be committed after it.

    What a person has to set right is one line and exit code 1, whatever else is EXIT_SOFTWARE with its traceback.
    """
    to_do = str(error) if isinstance(error, PartitionsError) else in_one_line(error)
    if to_do is None:
        log.critical("worker ends: %s: %s", type(error).__name__, error, exc_info=error)
    else:
        log.critical("worker ends: %s", to_do)
    logging.shutdown()
    os._exit(EXIT_SOFTWARE if to_do is None else EXIT_TO_BE_SET_RIGHT)
