"""A gateway to play with: OpenAI's chat completions with canned answers, and real metering behind them.

Owns: the HTTP side of a gateway node: who may ask, what a refusal looks like, and that every served
request is stored before its answer ends.
Called by: the demo and the tests, as `python -m pipeline.standin.gateway`. Next: `pipeline.gateway` admits
and publishes; `standin/completion.py` makes up the answer.

Only the model is pretended. Two headers ask for what a real provider does by itself: `x-standin-simulate`
(`fallback`: the first provider fails and the next one serves; `429`, `500` or `timeout`: the request
fails) and `x-standin-byok` (the org's own provider key is used).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from msgspec import Struct
from starlette.exceptions import HTTPException

from pipeline import ist, logs
from pipeline.accounts.keys import KeyRecord
from pipeline.catalog.rates import RateTable
from pipeline.connection import KafkaConnection, KafkaSecurity
from pipeline.gateway import Gateway, Refusal, SpoolError
from pipeline.kafka.catalog import to_rates
from pipeline.kafka.follow import TopicFollower
from pipeline.standin.completion import BadRequest, ChatRequest, Completion, answer, providers_of, read

SIMULATE = "x-standin-simulate"
BYOK = "x-standin-byok"
BODY_BYTES_MAX = 8 * 1024 * 1024
OWN_PROVIDER = "own"
"""Who serves a model that is not on the catalog, under the org's own provider key."""

_STOP_LIMIT_S = 3
_DRAIN_LIMIT_S = 4.0
_ANSWER_S = 0.02
_TIMEOUT_S = 0.3
_WORDS_A_CHUNK = 8
_CHUNK_S = 0.005
_FAILURES = {
    "429": (429, "rate_limit_exceeded", "the provider turns requests away; try again shortly"),
    "500": (500, "provider_error", "the provider failed"),
    "timeout": (504, "provider_timeout", "the provider did not answer in time"),
}
_NO_RETRY = ("budget_exceeded", "daily_limit_reached", "insufficient_credits")
_encode = msgspec.json.Encoder().encode
_NO_KEY = Refusal(
    "invalid_api_key",
    401,
    message="an API key is needed: Authorization: Bearer br-..., active and not revoked",
)


class Serving(Struct):
    """A request that was admitted, on its way to an event. `event_id` keeps it from being stored twice."""

    key: KeyRecord
    model: str
    byok: bool
    stream: bool
    event_id: str
    started_ns: int
    provider: str | None = None
    ttft_ms: int | None = None

    def event(self, status: int, usage: dict[str, Any] | None, error_code: str | None) -> dict[str, Any]:
        """Return the event of this request, ended now."""
        return {
            "id": self.event_id,
            "subject": self.key.org,
            "time": ist.isoformat(_now_ms()),
            "data": {
                "key_id": self.key.key_id,
                "tier": self.key.tier,
                "byok": self.byok,
                "model": self.model,
                "provider": self.provider,
                "status": status,
                "error_code": error_code,
                "latency_ms": self.elapsed_ms(),
                "ttft_ms": self.ttft_ms,
                "stream": self.stream,
                "usage": usage,
            },
        }

    def elapsed_ms(self) -> int:
        """Return the milliseconds since the request came."""
        return (time.monotonic_ns() - self.started_ns) // 1_000_000


class Failed(Exception):
    """An answer that is an error envelope."""

    def __init__(self, response: Response) -> None:
        """Carry the answer."""
        super().__init__(response.status_code)
        self.response = response


class GatewayStandIn:
    """The HTTP side of one gateway node."""

    def __init__(self, gateway: Gateway, rates: RateTable) -> None:
        """Serve through a gateway that runs, with a catalog that somebody keeps up to date."""
        self._gateway, self._rates = gateway, rates
        self._later: set[asyncio.Task[str]] = set()

    def app(self) -> FastAPI:
        """Return the application."""
        app = FastAPI(title="Stand-in gateway", docs_url=None, redoc_url=None, openapi_url=None)
        app.add_api_route("/v1/chat/completions", self.chat, methods=["POST"], response_model=None)
        app.add_api_route("/v1/models", self.models, methods=["GET"], response_model=None)
        app.add_api_route("/healthz", self.health, methods=["GET"], response_model=None)
        app.add_exception_handler(HTTPException, _http_error)
        return app

    async def settled(self) -> None:
        """Return once the events of streams that were broken off are stored."""
        await asyncio.gather(*self._later, return_exceptions=True)

    # --- the routes ---

    async def health(self) -> Response:
        """Answer 200 once verdicts and keys have been read, else 503; with how the gateway stands."""
        status = self._gateway.status()
        return Response(_encode(status), 200 if status.ready else 503, media_type="application/json")

    async def models(self) -> Response:
        """Answer the models of the catalog."""
        now_ms = _now_ms()
        data = [
            {
                "id": model,
                "object": "model",
                "created": 0,
                "owned_by": providers_of(self._rates, model, now_ms)[0],
            }
            for model in sorted(self._rates.models_in_force(now_ms))
        ]
        return JSONResponse({"object": "list", "data": data})

    async def chat(self, request: Request) -> Response:
        """Answer a chat completion, or why there is none."""
        try:
            key = self._authenticated(request)
            asked = await _read(request)
            byok = request.headers.get(BYOK, "") not in ("", "0")
            serving = Serving(
                key, asked.model, byok, bool(asked.stream), str(uuid.uuid4()), time.monotonic_ns()
            )
            providers = self._providers(serving)
            refusal = self._gateway.admit(key.org, key.key_id, key.tier, byok)
            if refusal is not None:
                return _refused(refusal)
            await self._reach(serving, providers, request.headers.get(SIMULATE, ""))
            if serving.stream:
                return StreamingResponse(
                    self._stream(serving, asked, answer(asked)), media_type="text/event-stream"
                )
            return await self._whole(serving, answer(asked))
        except Failed as failed:
            return failed.response

    # --- its steps ---

    def _authenticated(self, request: Request) -> KeyRecord:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        key = self._gateway.authenticate(secret.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            raise Failed(_refused(_NO_KEY))
        return key

    def _providers(self, serving: Serving) -> list[str]:
        providers = providers_of(self._rates, serving.model, _now_ms())
        if providers:
            return providers
        if serving.byok:
            return [OWN_PROVIDER]
        raise Failed(_error(404, "not_found", f"there is no model {serving.model!r} here", param="model"))

    async def _reach(self, serving: Serving, providers: list[str], simulate: str) -> None:
        """Find the provider that serves. Raises Failed, with the failure stored, where none does."""
        serving.provider = providers[0]
        failure = _FAILURES.get(simulate)
        await asyncio.sleep(_TIMEOUT_S if simulate == "timeout" else _ANSWER_S)
        if failure is not None:
            status, code, message = failure
            await self._publish(serving.event(status, None, code))
            headers = {"Retry-After": "1"} if status == _FAILURES["429"][0] else {}
            raise Failed(_error(status, code, message, headers=headers))
        if simulate == "fallback":
            serving.provider = providers[min(1, len(providers) - 1)]
        serving.ttft_ms = serving.elapsed_ms()

    async def _whole(self, serving: Serving, made: Completion) -> Response:
        await self._publish(serving.event(200, made.usage(), None))
        return JSONResponse(
            {
                **_head(serving, "chat.completion"),
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": " ".join(made.words), "refusal": None},
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ],
                "usage": made.usage(),
            }
        )

    async def _stream(self, serving: Serving, asked: ChatRequest, made: Completion) -> AsyncIterator[bytes]:
        """Yield the answer in chunks. What a reader who goes away has been sent is charged all the same."""
        sent, stored = 0, False
        try:
            for at in range(0, len(made.words), _WORDS_A_CHUNK):
                words = made.words[at : at + _WORDS_A_CHUNK]
                sent += len(words)
                delta = {"role": "assistant", "content": " ".join(words) + " "}
                yield _chunk(serving, delta, None)
                await asyncio.sleep(_CHUNK_S)
            await self._publish(serving.event(200, made.usage(), None))
            stored = True
            yield _chunk(serving, {}, "stop")
            if asked.wants_usage:
                yield _data({**_head(serving, "chat.completion.chunk"), "choices": [], "usage": made.usage()})
            yield b"data: [DONE]\n\n"
        except Failed as failed:
            yield b"data: " + bytes(failed.response.body) + b"\n\n"
        finally:
            if not stored:
                self._keep(self._gateway.publish(serving.event(200, made.usage(sent), None)))

    async def _publish(self, event: dict[str, Any]) -> None:
        """Store an event. Raises Failed where that cannot be: what is not stored is not handed out."""
        try:
            await self._gateway.publish(event)
        except SpoolError:
            raise Failed(
                _error(
                    503,
                    "unavailable",
                    "the request could not be recorded; try again",
                    headers={"Retry-After": "1"},
                )
            ) from None

    def _keep(self, publishing: Coroutine[Any, Any, str]) -> None:
        """Let an event be stored beside whatever ends now."""
        task = asyncio.get_running_loop().create_task(publishing)
        self._later.add(task)
        task.add_done_callback(self._later.discard)


def _refused(refusal: Refusal) -> Response:
    headers = refusal.headers()
    if refusal.code in _NO_RETRY:
        # Waiting a few seconds does not help: OpenAI's clients take this as the word not to try again.
        headers["x-should-retry"] = "false"
    return Response(refusal.body(), refusal.http_status, headers, "application/json")


def _error(
    status: int, code: str, message: str, *, param: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    kind = {400: "invalid_request_error", 404: "invalid_request_error", 429: "rate_limit_error"}
    error: dict[str, Any] = {"message": message, "type": kind.get(status, "api_error"), "code": code}
    if param is not None:
        error["param"] = param
    return JSONResponse({"error": error}, status, headers)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "not_found" if error.status_code == 404 else "invalid_request"  # noqa: PLR2004 - HTTP's own number
    return _error(error.status_code, code, str(error.detail), headers=dict(error.headers or {}))


async def _read(request: Request) -> ChatRequest:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise Failed(_error(400, "invalid_request", f"the body is above {BODY_BYTES_MAX} bytes"))
    try:
        return read(bytes(body))
    except BadRequest as error:
        raise Failed(_error(400, "invalid_request", str(error), param=error.param)) from None


def _head(serving: Serving, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{serving.event_id}",
        "object": kind,
        "created": _now_ms() // 1000,
        "model": serving.model,
        "provider": serving.provider,
    }


def _chunk(serving: Serving, delta: dict[str, str], finish_reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _data({**_head(serving, "chat.completion.chunk"), "choices": [choice]})


def _data(chunk: dict[str, Any]) -> bytes:
    return b"data: " + _encode(chunk) + b"\n\n"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def serve(kafka_url: str, host: str, port: int, node: str, spool_dir: Path) -> None:
    """Serve until SIGTERM or SIGINT; events that Kafka has not taken by then wait in the spool."""
    rates = RateTable()
    connection = KafkaConnection(kafka_url.removeprefix("kafka://"), KafkaSecurity.of_environment(os.environ))
    catalog = TopicFollower(connection, [to_rates(rates)])
    async with Gateway(
        kafka_url=kafka_url, node=node, spool_dir=spool_dir, drain_limit_s=_DRAIN_LIMIT_S
    ) as gateway:
        try:
            await catalog.start()
            stand_in = GatewayStandIn(gateway, rates)
            # uvicorn raises the signal that ended it once more: the spool still has to be drained then.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: None)
            await uvicorn.Server(
                uvicorn.Config(
                    stand_in.app(),
                    host=host,
                    port=port,
                    log_config=None,
                    access_log=False,
                    timeout_graceful_shutdown=_STOP_LIMIT_S,
                )
            ).serve()
            await stand_in.settled()
        finally:
            await catalog.stop()


def main() -> None:
    """Run the stand-in gateway with what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.standin.gateway", description=__doc__)
    parser.add_argument("--kafka-url", required=True, help="kafka://host:port")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--node", default="standin")
    parser.add_argument("--spool-dir", type=Path, required=True)
    given = parser.parse_args()
    logs.configure("warning")
    asyncio.run(serve(given.kafka_url, given.host, given.port, given.node, given.spool_dir))


if __name__ == "__main__":
    main()
