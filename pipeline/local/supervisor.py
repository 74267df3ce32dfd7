"""Run the whole product in the foreground: broker, worker, server, each started again when it ends.

Owns: the order of start and stop, restarts and their limit, what readiness means.
Called by: `cli/up.py`.  Next: `local/broker.py`, `local/deployment.py`, `local/processes.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pipeline.connection import KafkaConnection, KafkaSecurity
from pipeline.kafka.admin import ensure_topics
from pipeline.local import deployment, ports, processes
from pipeline.local.broker import Broker
from pipeline.local.deployment import Deployment
from pipeline.local.errors import LocalError
from pipeline.local.rights import Rights
from pipeline.settings import CommonSettings, Settings, WorkerSettings, environment_of

if TYPE_CHECKING:
    import httpx2

RESTARTS_MAX = 5
RESTART_WINDOW_SECONDS = 60.0
RESTART_DELAY_SECONDS = 0.25

_READY_SECONDS_MAX = 120.0
_READY_AGAIN_SECONDS = 0.2
_READY_SAID_EVERY_SECONDS = 5.0
_HEALTH_SECONDS_MAX = 2.0
_HEALTH_WORDS_MAX = 300
_READY = "ok"
_PORT_SECONDS_MAX = 3.0
# Together below the 30 s within which everything stops.
_CHILD_STOP_SECONDS_MAX = 10.0
_BROKER_STOP_SECONDS_MAX = 12.0


@dataclass(frozen=True)
class Child:
    """A process to keep running. `once`: it may end with 0. `health_url`: 200 there once it is ready.

    It sees the settings of its `role`, so it has no other's secrets. What is no role of the product has no password of the
    embedded broker either.
    """

    name: str
    command: tuple[str, ...]
    health_url: str | None = None
    once: bool = False
    role: type[CommonSettings] = CommonSettings


Children = Callable[[Deployment], Sequence[Child]]
"""Which children a deployment has."""


def roles(at: Deployment) -> list[Child]:
    """Return the product's own children: the worker, and the server with the sink beside it."""
    program = (sys.executable, "-m", "pipeline")
    return [
        Child("worker", (*program, "worker"), f"{at.worker_url}/healthz", role=WorkerSettings),
        Child("server", (*program, "server"), f"{at.http_url}/healthz", role=Settings),
    ]


def none(_at: Deployment) -> list[Child]:
    """Return no children."""
    return []


async def up(
    data_dir: Path,
    settings: Settings,
    *,
    kafka_port: int,
    children: Children = roles,
    when_ready: Children = none,
    is_guarded: bool = True,
) -> None:
    """Run everything until SIGINT, SIGTERM or SIGHUP; then stop it in order and return.

    `kafka_port` is the embedded broker's, used where no Kafka URL is set. `when_ready` are more children,
    started once the others are ready. Without `is_guarded` the embedded broker lets anybody on the machine do everything, as
    suits data that is made up. Raises LocalError where a part cannot run or ends too often, and
    TopicsError where the topics are not as the settings ask; everything is stopped then too.
    """
    data_dir = data_dir.absolute()
    async with deployment.claimed(data_dir) as lock:
        supervisor = _Supervisor(data_dir, settings, lock, is_guarded=is_guarded)
        with suppress(NotImplementedError):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, supervisor.stop)
        try:
            await supervisor.run(kafka_port, children, when_ready)
        finally:
            await supervisor.stop_everything()


class _Supervisor:
    """One run of `up`. What fails in a task is kept and ends the run."""

    def __init__(self, data_dir: Path, settings: Settings, lock: int, *, is_guarded: bool) -> None:
        self._data_dir = data_dir
        self._settings = settings
        self._lock = lock
        self._is_guarded = is_guarded
        self._stopping = asyncio.Event()
        self._failure: LocalError | None = None
        self._broker: Broker | None = None
        self._sign_in: dict[str, str] = {}
        self._running: dict[str, processes.Process] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def stop(self) -> None:
        """Ask for the end."""
        self._stopping.set()

    async def run(self, kafka_port: int, children: Children, when_ready: Children) -> None:
        """Start everything and return when the end was asked for. Raises what made it fail."""
        await _until_free(self._settings.port, self._settings.host, "--port")
        brokers = await self._start_broker(kafka_port)
        if self._stopping.is_set():
            return
        await ensure_topics(brokers, self._settings)
        at = self._place(brokers)
        environment = _environment(at, self._settings, deployment.instance_of(self._data_dir))
        self._sign_in = brokers.security.environment()
        started = children(at)
        for child in started:
            self._keep(child, environment)
        await self._until_ready(started)
        if not self._stopping.is_set():
            deployment.announce(self._data_dir, at)
            _say(
                f"Ready: {at.http_url}  (Kafka {at.gateway_kafka_url or at.kafka_url}, data in {self._data_dir}). Ctrl-C stops it."
            )
            for child in when_ready(at):
                self._keep(child, environment)
        await self._stopping.wait()
        if self._failure is not None:
            raise self._failure

    async def stop_everything(self) -> None:
        """Stop the children, then the broker. Ends within 30 s."""
        self._stopping.set()
        deployment.withdraw(self._data_dir)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._running or self._broker is not None:
            _say("Stopping.")
        await asyncio.gather(*(child.stop(_CHILD_STOP_SECONDS_MAX) for child in self._running.values()))
        if self._broker is not None:
            await self._broker.stop(_BROKER_STOP_SECONDS_MAX)

    async def _start_broker(self, port: int) -> KafkaConnection:
        """Return how the brokers are reached: those that are set, or the embedded one, started here."""
        if self._settings.kafka_url is not None:
            return self._settings.kafka
        if self._settings.kafka_security != KafkaSecurity():
            raise LocalError(
                "the embedded broker takes no METERING_KAFKA_ settings: set METERING_KAFKA_URL to the brokers that do, "
                "or leave the others out"
            )
        if port:
            await _until_free(port, "127.0.0.1", "--kafka-port")
        password = deployment.secrets_of(self._data_dir).kafka_password
        rights = Rights(password, self._settings.deployment) if self._is_guarded else None
        broker = Broker(self._data_dir / "kafka", port, keep_open=(self._lock,), rights=rights)
        self._broker = broker
        await broker.start(self._stopping.is_set)

        async def start_again() -> processes.Process:
            await broker.start(self._stopping.is_set)
            return broker.process

        self._tasks.append(
            asyncio.create_task(self._guard(self._keep_running("broker", start_again, broker.process)))
        )
        return broker.connection

    def _place(self, brokers: KafkaConnection) -> Deployment:
        """Decide where everything is, and which secrets open it."""
        settings, made = self._settings, deployment.secrets_of(self._data_dir)
        # Its default is for a worker alone on its machine; here nobody needs to know the number beforehand.
        worker_port = settings.worker_port if "worker_port" in settings.model_fields_set else 0
        return Deployment(
            pid=os.getpid(),
            kafka_url=f"kafka://{brokers.servers}",
            clickhouse_url=settings.clickhouse_url or f"chdb://{self._data_dir / 'clickhouse'}",
            http_url=_url(settings.host, settings.port or ports.free(settings.host)),
            worker_url=_url(settings.host, worker_port or ports.free(settings.host)),
            server_status_url=_url(settings.host, settings.server_status_port or ports.free(settings.host)),
            deployment=settings.deployment,
            partitions=settings.partitions,
            session_secret=(
                settings.session_secret.get_secret_value() if settings.session_secret else made.session_secret
            ),
            operator_token=(
                settings.operator_token.get_secret_value() if settings.operator_token else made.operator_token
            ),
            command_key=settings.command_key.get_secret_value() if settings.command_key else made.command_key,
            notary_key=settings.notary_key.get_secret_value() if settings.notary_key else made.notary_key,
            kafka_security=brokers.security,
            gateway_kafka_url=self._broker.url if self._broker is not None else "",
        )

    def _keep(self, child: Child, environment: Mapping[str, str]) -> None:
        async def start() -> processes.Process:
            own = environment_of(child.role, environment)
            if child.role is not CommonSettings:
                own |= self._sign_in
            process = processes.start(child.name, child.command, environment=own, keep_open=(self._lock,))
            self._running[child.name] = process
            return process

        self._tasks.append(
            asyncio.create_task(self._guard(self._keep_running(child.name, start, once=child.once)))
        )

    async def _guard(self, keeping: Awaitable[None]) -> None:
        try:
            await keeping
        except LocalError as error:
            self._failure = error
            self._stopping.set()

    async def _keep_running(
        self,
        name: str,
        start: Callable[[], Awaitable[processes.Process]],
        running: processes.Process | None = None,
        *,
        once: bool = False,
    ) -> None:
        """Keep one process running. Raises LocalError when it ends more often than it may."""
        clock = asyncio.get_running_loop().time
        restarts: deque[float] = deque()
        while True:
            try:
                process = running or await start()
                running = None
                code = await process.wait()
                end = f"{name} ended ({_in_words(code)})"
            except LocalError as error:
                code, end = 1, str(error)
            if self._stopping.is_set() or (once and code == 0):
                return
            now = clock()
            while restarts and restarts[0] <= now - RESTART_WINDOW_SECONDS:
                restarts.popleft()
            if len(restarts) >= RESTARTS_MAX:
                raise LocalError(f"{end}; started again {RESTARTS_MAX} times within a minute, now giving up")
            delay = RESTART_DELAY_SECONDS * 2 ** len(restarts)
            restarts.append(now)
            _say(f"{end}; starting it again")
            await asyncio.sleep(delay)

    async def _until_ready(self, children: Sequence[Child]) -> None:
        """Return when every child is ready, or the end was asked for. Raises LocalError after a bound."""
        import httpx2

        clock = asyncio.get_running_loop().time
        until, say_at = clock() + _READY_SECONDS_MAX, clock() + _READY_SAID_EVERY_SECONDS
        async with httpx2.AsyncClient(trust_env=False, timeout=_HEALTH_SECONDS_MAX) as client:
            while not self._stopping.is_set():
                answers = [(child.name, await _health(client, child)) for child in children]
                waiting = "; ".join(f"{name}: {why}" for name, why in answers if why is not None)
                if not waiting:
                    return
                if clock() > until:
                    raise LocalError(f"not ready after {_READY_SECONDS_MAX:.0f} s: {waiting}")
                if clock() > say_at:
                    say_at += _READY_SAID_EVERY_SECONDS
                    _say(f"Waiting for {waiting}")
                await asyncio.sleep(_READY_AGAIN_SECONDS)


async def _health(client: httpx2.AsyncClient, child: Child) -> str | None:
    """Return None where a child is ready, else why it is not."""
    import httpx2

    if child.health_url is None:
        return None
    try:
        answer = await client.get(child.health_url)
    except httpx2.HTTPError:
        return "does not answer yet"
    return None if answer.status_code == httpx2.codes.OK else _what_is_not_ready(answer.content)


def _what_is_not_ready(answer: bytes) -> str:
    """Return in words what an answer of /healthz says of the parts that are not ready."""
    try:
        parts = msgspec.json.decode(answer, type=dict[str, str])
    except msgspec.MsgspecError:
        return "is not ready"
    told = ", ".join(f"{name} {said}" for name, said in parts.items() if said != _READY)
    return told[:_HEALTH_WORDS_MAX] or "is not ready"


async def _until_free(port: int, host: str, option: str) -> None:
    """Wait a moment for a port that an earlier run may still be letting go. Raises LocalError."""
    clock = asyncio.get_running_loop().time
    until = clock() + _PORT_SECONDS_MAX
    while port and not ports.is_free(port, host):
        if clock() > until:
            raise LocalError(f"port {port} on {host} is taken; choose another with {option}")
        await asyncio.sleep(_READY_AGAIN_SECONDS)


def _environment(at: Deployment, settings: Settings, instance: str) -> dict[str, str]:
    """Return the children's environment: this process's, with this deployment's settings over it.

    A child that is started again has the instance of the one that ended, and so its partitions at once.
    """
    return {
        **os.environ,
        "METERING_WEAK_SECRETS": "true",
        "METERING_KAFKA_URL": at.kafka_url,
        "METERING_CLICKHOUSE_URL": at.clickhouse_url,
        "METERING_SESSION_SECRET": at.session_secret,
        "METERING_OPERATOR_TOKEN": at.operator_token,
        "METERING_COMMAND_KEY": at.command_key,
        "METERING_NOTARY_KEY": at.notary_key,
        "METERING_INSTANCE": settings.instance or instance,
        "METERING_HOST": settings.host,
        "METERING_PORT": at.http_url.rpartition(":")[2],
        "METERING_WORKER_PORT": at.worker_url.rpartition(":")[2],
        "METERING_SERVER_STATUS_PORT": at.server_status_url.rpartition(":")[2],
        # Nothing sends requests here that would have to learn of a stop first.
        "METERING_STOP_DELAY_S": "0",
    }


def _url(host: str, port: int) -> str:
    """Return where a server that listens on `host` is reached from this machine."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(  # noqa: S104 - not bound here
        host, f"[{host}]" if ":" in host else host
    )
    return f"http://{reached}:{port}"


def _in_words(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _say(message: str) -> None:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()
