"""The meter of one process of a proxy: who asks, whether it may, and the event of what became of it.

Owns: the life of a request between the hooks of a proxy: admitted, then ended once, whoever says so first.
Called by: `gateway/litellm.py`. Next: `gateway/gateway.py` admits and stores; `gateway/proxying/costs.py` says how much is
set aside; `gateway/proxying/spools.py` has the spool.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.accounts.keys import KeyRecord
from pipeline.catalog.rates import RateTable
from pipeline.connection import KafkaConnection, KafkaSecurity
from pipeline.gateway.admission.refusal import Refusal, refuse
from pipeline.gateway.errors import GatewayError
from pipeline.gateway.gateway import Gateway
from pipeline.gateway.proxying.admitted import AdmittedRequest, Caller, Outcome
from pipeline.gateway.proxying.costs import max_cost_inr
from pipeline.gateway.proxying.settings import ProxySettings
from pipeline.gateway.proxying.spools import Spools
from pipeline.kafka.catalog import to_rates
from pipeline.kafka.follow import TopicFollower
from pipeline.outcomes import RefusalCode

log = logging.getLogger(__name__)

CATALOG_LIMIT_S = 10.0
FORGOTTEN_S = 3600.0
"""After so long a request that never ended is forgotten: its reservation has ended long before."""

NO_KEY = refuse(
    RefusalCode.INVALID_API_KEY,
    "an API key is needed: Authorization: Bearer br-..., active and not revoked",
)
NOT_READY = refuse(RefusalCode.UNAVAILABLE, "the metering of this proxy is not running; try again", 1)
NOT_STORED = refuse(RefusalCode.UNAVAILABLE, "the request could not be recorded; try again", 1)


class ProxyMeter:
    """What meters one process. It belongs to one event loop, and starts by itself when it is first asked."""

    def __init__(self, settings: ProxySettings, **gateway_options: Any) -> None:
        """Prepare. Raises ValueError for a setting that cannot be, METERING_KAFKA_... among them.

        `gateway_options` are further ones of `Gateway`.
        """
        self._settings, self._gateway_options = settings, gateway_options
        security = KafkaSecurity.of_environment(os.environ)
        self._kafka = KafkaConnection(settings.kafka_url.removeprefix("kafka://").rstrip("/"), security)
        self._rates = RateTable()
        self._spools = Spools(settings.spool_dir, self._make_gateway)
        self._gateway: Gateway | None = None
        self._starting: asyncio.Task[Gateway] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._open: dict[str, AdmittedRequest] = {}
        # A setting that cannot be is told of now, and not at the first request.
        self._make_gateway(settings.spool_dir)

    def _make_gateway(self, place: Path) -> Gateway:
        return Gateway(
            kafka_url=self._settings.kafka_url,
            node=self._settings.node,
            spool_dir=place,
            when_stale=self._settings.when_stale,
            **self._gateway_options,
        )

    # --- life ---

    def start(self) -> asyncio.Task[Gateway]:
        """Start, unless that was done, and return what ends once it has started; a start that failed is tried again."""
        if self._starting is None or (self._starting.done() and self._starting.exception() is not None):
            self._starting = self.keep(asyncio.create_task(self._start()))
        return self._starting

    async def _start(self) -> Gateway:
        catalog = TopicFollower(self._kafka, [to_rates(self._rates)])
        gateway = await self._spools.enter_free()
        self.keep(asyncio.create_task(catalog.run()))
        self.keep(asyncio.create_task(self._spools.look_after_others()))
        try:
            async with asyncio.timeout(CATALOG_LIMIT_S):
                await catalog.ready.wait()
        except TimeoutError:
            log.warning(
                "no catalog within %.0f s, so nothing is set aside: %s", CATALOG_LIMIT_S, catalog.problem
            )
        self._gateway = gateway
        return gateway

    async def _started(self) -> Gateway | None:
        """Return the gateway once it runs, or None where it cannot be started: the log says why."""
        if self._gateway is not None:
            return self._gateway
        try:
            return await asyncio.shield(self.start())
        except GatewayError:
            log.exception("the metering cannot be started")
            return None

    def keep(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        """Hold on to a task that nobody waits for, until it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- before a request ---

    async def authenticate(self, api_key: str | None) -> KeyRecord | Refusal:
        """Return the key that a secret belongs to, or the refusal."""
        gateway = await self._started()
        if gateway is None:
            return NOT_READY
        key = gateway.authenticate(api_key) if api_key else None
        if key is not None:
            return key
        # Before the keys have been read nobody is known, and a good key must not be called a bad one.
        return NO_KEY if gateway.status().ready else NOT_READY

    async def admit(
        self, caller: Caller, body: Mapping[str, Any], *, embeds: bool
    ) -> AdmittedRequest | Refusal:
        """Return the request, admitted and with its cost set aside, or the refusal. `embeds`: it has no answer."""
        gateway = await self._started()
        if gateway is None:
            return NOT_READY
        request_id = str(uuid.uuid4())
        hold_tokens = self._settings.hold_tokens
        cost_inr = max_cost_inr(self._rates, body, at_ms=_now_ms(), hold_tokens=hold_tokens, embeds=embeds)
        refusal = gateway.admit(
            caller.org, caller.key_id, caller.tier, max_cost_inr=cost_inr, request_id=request_id
        )
        if refusal is not None:
            return refusal
        self._forget_old()
        request = AdmittedRequest(request_id, caller, body.get("stream") is True, time.monotonic_ns())
        self._open[request_id] = request
        return request

    def open_request(self, request_id: object) -> AdmittedRequest | None:
        """Return an admitted request that has not ended."""
        return self._open.get(request_id) if isinstance(request_id, str) else None

    def _forget_old(self) -> None:
        """Forget requests of which nothing was heard for too long, loudly: they may have been served."""
        before_ns = time.monotonic_ns() - int(FORGOTTEN_S * 1e9)
        while self._open and (first := next(iter(self._open.values()))).started_ns < before_ns:
            del self._open[first.request_id]
            log.error("request %s of %s never ended: no event", first.request_id, first.caller.org)

    # --- after a request ---

    def drop(self, request: AdmittedRequest) -> None:
        """End a request that no provider was asked for: it costs nothing and leaves no event."""
        if self._open.pop(request.request_id, None) is not None and self._gateway is not None:
            caller = request.caller
            self._gateway.release(caller.org, caller.key_id, request_id=request.request_id)

    async def end(self, request: AdmittedRequest, outcome: Outcome) -> Refusal | None:
        """Store the event of a request that ended; None once it is durable, else the answer to give instead.

        A request ends once: what is said of it later is of no effect. Cancelled, it goes on storing.
        """
        if self._open.pop(request.request_id, None) is None or self._gateway is None:
            return None
        event = request.event(outcome, _now_ms(), time.monotonic_ns())
        publishing = self._gateway.publish(event, request_id=request.request_id)
        try:
            await asyncio.shield(self.keep(asyncio.create_task(publishing)))
        except GatewayError as error:
            log.error("request %s of %s has no event: %s", request.request_id, request.caller.org, error)  # noqa: TRY400
            return NOT_STORED
        return None


@functools.cache
def meter_of_process() -> ProxyMeter:
    """Return the one meter of this process, by the settings of its environment.

    Raises ValueError for a setting that cannot be.
    """
    return ProxyMeter(ProxySettings.of_environment(os.environ))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
