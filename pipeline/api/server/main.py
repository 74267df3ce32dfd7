"""The server: the API, with the sink beside it unless told otherwise (`metering server`).

Owns: the composition of the parts, readiness, and the order in which they start and stop.
Called by: `cli/roles.py`. Next: `api/server/app.py`, `sink/sink.py`.

The broker or the engine being away takes away only the answers that need it; the sink is started again.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager

import uvicorn
import uvloop
from aiokafka import TopicPartition

from pipeline import logs, status_server, telemetry, topics
from pipeline.api.http.addresses import Proxies
from pipeline.api.http.bounded_connection import CONNECTIONS_MAX, bounded_connections
from pipeline.api.routes.health import engine_checks
from pipeline.api.server.app import ROUTERS, create_app
from pipeline.api.server.status import ServerStatus, asking_owners
from pipeline.api.server.supervised import SupervisedPart
from pipeline.api.services.accounts import account_services
from pipeline.api.services.checkpoints import CheckpointBook
from pipeline.api.services.context import AppContext, Check, rate_of
from pipeline.api.services.key_directory import KeyDirectory
from pipeline.api.services.sessions import SessionRegister
from pipeline.api.services.tokens import TokenRegister
from pipeline.api.services.worker_watch import WorkerWatch
from pipeline.catalog.rates import RateTable
from pipeline.clickhouse.client import EngineError, EngineUnavailable
from pipeline.clickhouse.migrate import migrate
from pipeline.clickhouse.shards import Database, open_database
from pipeline.exposition import MetricGroup, MetricsText
from pipeline.kafka.attempts import error_of
from pipeline.kafka.bounded import records_at
from pipeline.kafka.catalog import to_rates
from pipeline.kafka.commands import CommandClient
from pipeline.kafka.follow import StaleError, Subscription, TopicFollower
from pipeline.kafka.followed_log import FollowedLog
from pipeline.kafka.replicas import ReplicasWatch
from pipeline.kafka.sessions import session_writer, to_sessions
from pipeline.kafka.tokens import to_tokens, token_writer
from pipeline.mail.mailer import Mailer
from pipeline.notary.checkpoint import NotaryKeys
from pipeline.notary.notary import Notary
from pipeline.operations.verify_runs import VerifyWatch
from pipeline.payments.order_index import OrderIndex
from pipeline.payments.order_poller import reconcile_open_orders
from pipeline.payments.returns_poller import ReturnsPoller
from pipeline.session_book import SessionBook
from pipeline.settings import MissingSettingError, Settings
from pipeline.sink.sink import Sink
from pipeline.telling.statements_ready import StatementsReady
from pipeline.telling.unusual_hours import UnusualHours
from pipeline.token_book import TokenBook
from pipeline.webhook.sender import webhook_sender

log = logging.getLogger(__name__)

EXIT_SOFTWARE = 70
FILES_KEPT = 512
"""For what is no connection of a client: Kafka, ClickHouse and its tables' files, and the connections being refused."""
STOP_LIMIT_S = 8
STATUS_PORT = 8002
WORKER_ANSWER_S = 2.0
FOLLOWER_FRESH_S = 30.0


class PartFailedError(Exception):
    """A part of the server ended by itself."""


def main(settings: Settings) -> int:
    """Run the server until it is told to stop; the exit code."""
    logs.configure(settings.log_level, settings.log_format)
    if settings.clickhouse_url is None:
        raise MissingSettingError("METERING_CLICKHOUSE_URL is not set")
    if settings.session_secret is None:
        raise MissingSettingError("METERING_SESSION_SECRET is not set")
    return uvloop.run(_serve(settings, settings.clickhouse_url, settings.session_secret.get_secret_value()))


async def _serve(settings: Settings, clickhouse_url: str, session_secret: str) -> int:
    status = ServerStatus()
    groups = metric_groups(settings)
    _serve_status(settings, status, MetricsText(groups))
    beating = asyncio.create_task(status.role.beat())
    database = open_database(clickhouse_url, settings.clickhouse_tls)
    await asyncio.to_thread(_migrate_now_or_later, database)
    async with AsyncExitStack() as stack:
        stack.callback(database.close)
        stack.callback(beating.cancel)
        directory, rates = KeyDirectory(), RateTable()
        order_index = OrderIndex(int(settings.reconcile_every_s * 1000))
        session_book, token_book = SessionBook(_now_ms), TokenBook(session_secret, _now_ms)
        checkpoint_book = CheckpointBook(
            lambda offsets: records_at(settings.kafka, TopicPartition(topics.NOTARY_STATE, 0), offsets)
        )
        follower = TopicFollower(
            settings.kafka,
            [
                to_rates(rates),
                Subscription(topics.KEYS, directory.put, directory.delete),
                Subscription(topics.ORDERS, order_index.put, order_index.delete),
                to_sessions(session_book),
                to_tokens(token_book),
                checkpoint_book.subscription(),
            ],
            count_bad=telemetry.count_bad_record,
        )
        client = CommandClient(settings.kafka, settings.command_keys)
        followed_log = FollowedLog(settings.kafka, follower)
        # Nobody is let in before everything was read: what was ended or revoked must not open anything for a moment.
        await follower.start()
        stack.push_async_callback(follower.stop)
        await followed_log.start()
        stack.push_async_callback(followed_log.stop)
        await client.start()
        stack.push_async_callback(client.stop)
        workers = WorkerWatch(
            client.partitions, lambda partition: client.ask_owner(partition, WORKER_ANSWER_S)
        )
        accounts = account_services(settings, client, order_index, directory)
        stack.push_async_callback(accounts.close)
        supervised = {
            "mail": SupervisedPart("mailer", lambda: Mailer(settings)),
            "webhooks": SupervisedPart(
                "sender of webhooks", lambda: webhook_sender(settings, session_secret)
            ),
        }
        beside_api = SinkBeside(settings, database, follower)
        notary = _notary_of(settings)
        if settings.server_sink:
            supervised["sink"] = SupervisedPart("sink", beside_api.make)
        app = create_app(
            AppContext(
                database=database,
                key_names=directory,
                rates=rates,
                checkpoints=checkpoint_book,
                session_secret=session_secret,
                now_ms=_now_ms,
                checks=_checks(database, workers, follower, supervised),
                behind_ms=beside_api.behind_ms,
                metric_groups=groups,
                accounts=accounts,
                settings=settings,
                public_url=settings.public_url,
                checkout_url=settings.checkout_url,
                gateway_url=settings.gateway_url,
                address_requests=rate_of(settings.address_requests_per_s),
                session_requests=rate_of(settings.session_requests_per_s),
                known_sessions=SessionRegister(
                    session_secret, _now_ms, session_book, session_writer(followed_log)
                ),
                known_tokens=TokenRegister(session_secret, _now_ms, token_book, token_writer(followed_log)),
            )
        )
        server = Server(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                log_config=None,
                access_log=False,
                server_header=False,
                http=bounded_connections(
                    Proxies(settings.proxies), settings.address_connections, connections_allowed()
                ),
                # With a library for it installed, uvicorn would hand connections over to it, past all bounds.
                ws="none",
                proxy_headers=bool(settings.proxies),
                forwarded_allow_ips=settings.proxies,
                timeout_graceful_shutdown=STOP_LIMIT_S,
            )
        )
        beside = [part.run() for part in (*supervised.values(), *notary)]
        beside += [workers.run(), status.look(app.state.kept_health, list(asking_owners(ROUTERS)))]
        beside += [
            VerifyWatch(settings.kafka).run(),
            ReplicasWatch(settings.kafka, settings.min_insync_replicas).run(),
            StatementsReady(client, _now_ms).run(),
            *(UnusualHours(client, shard, _now_ms).run() for shard in database.shards),
        ]
        if accounts.razorpay is not None:
            returns = ReturnsPoller(accounts.intake, accounts.razorpay)
            beside += [
                reconcile_open_orders(accounts.intake, order_index, _now_ms),
                returns.run(_now_ms, settings.reconcile_every_s),
            ]
        return await until_stopped(server, beside, status, settings.stop_delay_s)


class Server(uvicorn.Server):
    """uvicorn's server, told to stop by `until_stopped` alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def _notary_of(settings: Settings) -> list[SupervisedPart]:
    """Return the notary, none where it has no key. It is no part that /healthz waits for: nobody waits for a signature."""
    if settings.notary_key is None:
        log.info("METERING_NOTARY_KEY is not set: this server signs no checkpoints")
        return []
    keys = NotaryKeys.parse(settings.notary_key.get_secret_value())
    return [SupervisedPart("notary", lambda: Notary(settings, keys))]


def metric_groups(settings: Settings) -> tuple[MetricGroup, ...]:
    """Return the metrics that a server shows: those of the sink and the notary only where they run beside it."""
    elsewhere: list[MetricGroup] = []
    if not settings.server_sink:
        elsewhere.append(telemetry.SINK)
    if settings.notary_key is None:
        elsewhere.append(telemetry.NOTARY)
    return tuple(group for group in telemetry.shown_by("server") if group not in elsewhere)


def _serve_status(settings: Settings, status: ServerStatus, metrics: MetricsText) -> None:
    """Serve the status port. Raises OSError where a port that was set is taken."""
    port = settings.server_status_port
    try:
        status_server.serve(settings.host, STATUS_PORT if port is None else port, status.role, metrics)
    except OSError as error:
        if port is not None:
            raise
        log.warning(
            "port %d is taken (%s), so /livez and /readyz are nowhere: set METERING_SERVER_STATUS_PORT",
            *(STATUS_PORT, error),
        )


def connections_allowed() -> int:
    """Return how many connections this process may have, after asking the system for as many open files as it gives.

    Where files run out, Kafka and ClickHouse could not be reached either: `FILES_KEPT` of them stay for these.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_MAX + FILES_KEPT
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return (
        CONNECTIONS_MAX if soft == resource.RLIM_INFINITY else max(1, min(CONNECTIONS_MAX, soft - FILES_KEPT))
    )


def _migrate_now_or_later(database: Database) -> None:
    """Bring the schema up to date. Where the engine is away or will not have us, the server starts all the same, not ready."""
    try:
        migrate(database)
    except (EngineError, EngineUnavailable) as error:
        if isinstance(error, EngineError) and not error.needs_operator:
            raise
        level = logging.ERROR if error.needs_operator else logging.WARNING
        log.log(level, "started without the engine: %s", error)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def until_stopped(
    server: uvicorn.Server, beside: list[Coroutine[None, None, None]], status: ServerStatus, delay_s: float
) -> int:
    """Serve until a signal stops the server or a part beside it ends by itself; the exit code.

    A server that is told to stop is not ready from then on, and goes on answering for a while: who sends it requests has
    to learn of that first. A second signal ends that while.
    """
    told = asyncio.Event()

    def stop() -> None:
        if told.is_set():
            server.should_exit = True
        status.role.stop()
        told.set()

    async def drain() -> None:
        await told.wait()
        await asyncio.sleep(delay_s)
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    serving = asyncio.create_task(server.serve())
    draining = asyncio.create_task(drain())
    others = [asyncio.create_task(part) for part in beside]
    await asyncio.wait([serving, *others], return_when=asyncio.FIRST_COMPLETED)
    failed = [task for task in others if task.done()]
    status.role.stop()
    server.should_exit = True
    for task in (draining, *others):
        task.cancel()
    await asyncio.wait([serving, *others], timeout=STOP_LIMIT_S + 2)
    for task in failed:
        error = error_of(task) or PartFailedError("a part ended by itself")
        log.critical("server ends: %s: %s", type(error).__name__, error, exc_info=error)
    return EXIT_SOFTWARE if failed else 0


def _checks(
    database: Database,
    workers: WorkerWatch,
    follower: TopicFollower,
    supervised: Mapping[str, SupervisedPart],
) -> dict[str, Check]:
    """Return what `/healthz` asks, each part by name. All but the engine say what is known already."""

    async def kafka() -> str | None:
        try:
            follower.check_fresh(FOLLOWER_FRESH_S)
        except StaleError as error:
            return str(error)
        return None

    return {
        "kafka": kafka,
        **engine_checks(database),
        "worker": workers.problem,
        **{name: part.problem for name, part in supervised.items()},
    }


class SinkBeside:
    """The sink that runs beside the API now, if any: the newest that was made."""

    def __init__(self, settings: Settings, database: Database, follower: TopicFollower) -> None:
        """Start without one. Whether Kafka can be reached is what the follower found last."""
        self._settings, self._database, self._follower = settings, database, follower
        self._sink: Sink | None = None

    def make(self) -> Sink:
        """Return a new sink."""
        self._sink = Sink(self._settings, self._database)
        return self._sink

    def behind_ms(self, org: str) -> int | None:
        """Return how far ClickHouse is behind the journal for an org; None where nobody here knows.

        A journal that cannot be reached may hold anything.
        """
        try:
            self._follower.check_fresh(FOLLOWER_FRESH_S)
        except StaleError:
            return None
        return None if self._sink is None else self._sink.behind_ms(org, _now_ms())
