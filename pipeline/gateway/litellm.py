"""Plug the gateway library into the LiteLLM proxy: its requests are admitted, and charged, by this product.

Owns: what LiteLLM's hooks mean here: who calls, what served, which usage, and refusals in this product's envelope.
Called by: LiteLLM, as `callbacks: ["pipeline.gateway.litellm.metering"]` of its `litellm_settings`; docs/gateway.md has the
whole configuration. Next: `gateway/proxying/meter.py`.

The hooks are those of LiteLLM's `CustomLogger` that it waits for: `async_pre_call_hook` before the request,
`async_post_call_success_hook` before the answer goes out, `async_post_call_streaming_iterator_hook` around a stream and
`async_post_call_failure_hook` where all providers failed. Its log events come when the answer has gone out already, so
a crash could lose them: they are not used. LiteLLM must be installed; it is no dependency of the library.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import litellm
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth
from litellm.proxy.auth.auth_utils import get_request_route
from msgspec import structs

from pipeline.gateway.admission.refusal import Refusal, refuse
from pipeline.gateway.proxying.admitted import CLIENT_CLOSED, AdmittedRequest, Caller, Outcome
from pipeline.gateway.proxying.answers import AnswerRead, failure_of, usage_of
from pipeline.gateway.proxying.meter import NO_KEY, ProxyMeter, meter_of_process
from pipeline.gateway.proxying.requests import embeds, is_listing, is_metered, problem_of
from pipeline.outcomes import KeyRefusal, RefusalCode

log = logging.getLogger(__name__)

CALLER = "metering_caller"
"""Where LiteLLM's record of a key has the caller."""
REQUEST = "metering_request"
"""Where a request's metadata has its id."""
_NO_RETRY = frozenset({RefusalCode.INSUFFICIENT_CREDITS, *(reason.code for reason in KeyRefusal)})


class RefusedByMeter(ProxyException):  # type: ignore[misc] # LiteLLM is not there where the types are checked
    """A refusal as LiteLLM answers it: with this product's status, headers and envelope."""

    def __init__(self, refusal: Refusal) -> None:
        """Word it."""
        headers = refusal.headers()
        if refusal.code in _NO_RETRY:
            # Waiting a few seconds does not help: OpenAI's clients take this as the word not to try again.
            headers["x-should-retry"] = "false"
        super().__init__(refusal.message, refusal.code.type, None, refusal.http_status, headers)
        self._envelope: dict[str, Any] = json.loads(refusal.body())

    def to_dict(self) -> dict[str, Any]:
        """Return the error of the envelope; LiteLLM's own has the status where this one has the code."""
        error: dict[str, Any] = self._envelope["error"]
        return error


class LiteLLMMetering(CustomLogger):  # type: ignore[misc] # LiteLLM is not there where the types are checked
    """The callback of LiteLLM that meters: `metering` is the one of this process."""

    def __init__(self, meter: ProxyMeter) -> None:
        """ProxyMeter by `meter`, which is started at once where an event loop runs."""
        super().__init__()
        self.meter = meter
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        meter.start()

    # --- before a request ---

    async def caller(self, route: str, api_key: str | None) -> UserAPIKeyAuth:
        """Return LiteLLM's record of the key that calls a route. Raises RefusedByMeter."""
        key = await self.meter.authenticate(api_key)
        if isinstance(key, Refusal):
            raise RefusedByMeter(key)
        if not is_metered(route) and not is_listing(route):
            raise RefusedByMeter(
                refuse(RefusalCode.FORBIDDEN, f"{route} is not metered here, so it is not served")
            )
        return UserAPIKeyAuth(
            api_key=key.hash,
            key_alias=key.name,
            user_id=key.org,
            user_role=LitellmUserRoles.INTERNAL_USER,
            metadata={CALLER: {"org": key.org, "key_id": key.key_id, "tier": key.tier}},
        )

    async def async_pre_call_hook(
        self,
        user_api_key_dict: Any,
        cache: Any,  # noqa: ARG002 - LiteLLM calls its hooks by these names
        data: dict[str, Any],
        call_type: str,
    ) -> dict[str, Any]:
        """Admit a request. Raises RefusedByMeter."""
        known = user_api_key_dict.metadata.get(CALLER)
        if known is None:
            raise RefusedByMeter(NO_KEY)
        problem = problem_of(data)
        if problem is not None:
            raise RefusedByMeter(refuse(RefusalCode.INVALID_REQUEST, problem))
        earlier = self._request(data)
        if earlier is not None:
            # LiteLLM asks again where it goes on with another model before any was called.
            self.meter.drop(earlier)
        admitted = await self.meter.admit(Caller(**known), data, embeds=embeds(call_type))
        if isinstance(admitted, Refusal):
            raise RefusedByMeter(admitted)
        if not _metadata(data):
            data["metadata"] = {}
        for metadata in _metadata(data):
            metadata[REQUEST] = admitted.request_id
        return data

    # --- after a request ---

    async def async_post_call_success_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,  # noqa: ARG002
        response: Any,
    ) -> None:
        """Store the event of an answer before it goes out. Raises RefusedByMeter where that cannot be."""
        request = self._request(data)
        if request is None:
            return
        read = AnswerRead()
        read.add(_plain(response), response)
        usage = read.usage or await asyncio.to_thread(_counted, read, data)
        model, provider = _route(data)
        await self._end(request, Outcome(200, model, provider, usage))

    async def async_post_call_streaming_iterator_hook(
        self,
        user_api_key_dict: Any,  # noqa: ARG002
        response: Any,
        request_data: dict[str, Any],
    ) -> AsyncIterator[Any]:
        """Hand a stream on, and store its event before its end goes out, or when it is broken off."""
        request = self._request(request_data)
        if request is None:
            async for chunk in response:
                yield chunk
            return
        read = AnswerRead()
        try:
            async for chunk in response:
                if request.first_ns is None:
                    request.first_ns = time.monotonic_ns()
                read.add(_plain(chunk), chunk)
                yield chunk
            usage = read.usage or await asyncio.to_thread(_counted, read, request_data)
            model, provider = _route(request_data)
            await self._end(request, Outcome(200, model, provider, usage))
        except (asyncio.CancelledError, GeneratorExit):
            # Cancelled once more it goes on: the client is charged however fast it left.
            await asyncio.shield(
                self.meter.keep(asyncio.create_task(self._end_left(request, request_data, read)))
            )
            raise
        except Exception as error:
            model, provider = _route(request_data)
            await self._end(request, Outcome(502, model, provider, read.usage, failure_of(error)[1]))
            raise

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,  # noqa: ARG002
        traceback_str: str | None = None,  # noqa: ARG002
    ) -> None:
        """Store the event of a request that all providers failed, or forget one that none was asked for."""
        request = self._request(request_data)
        if request is None:
            return
        model, provider = _route(request_data)
        if provider is None:
            self.meter.drop(request)
            return
        status, code = failure_of(original_exception)
        await self._end(request, Outcome(status, model, provider, None, code))

    def _request(self, data: Mapping[str, Any]) -> AdmittedRequest | None:
        found = (self.meter.open_request(metadata.get(REQUEST)) for metadata in _metadata(data))
        return next((request for request in found if request is not None), None)

    async def _end(self, request: AdmittedRequest, outcome: Outcome) -> None:
        """End a request. Raises RefusedByMeter where its event cannot be stored: what is not stored is not handed out."""
        instead = await self.meter.end(request, outcome)
        if instead is not None:
            raise RefusedByMeter(instead)

    async def _end_left(self, request: AdmittedRequest, data: dict[str, Any], read: AnswerRead) -> None:
        """End a stream that its client left: charged as far as it was read, and nothing before its first part."""
        model, provider = _route(data)
        if request.first_ns is None:
            outcome = Outcome(499, model, provider, None, CLIENT_CLOSED)
        else:
            usage = read.usage or await asyncio.to_thread(_counted, read, data)
            outcome = Outcome(200, model, provider, usage, CLIENT_CLOSED)
        await self.meter.end(request, outcome)


def _metadata(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what LiteLLM keeps beside a request and never sends to a provider: one or both, by the route."""
    return [data[name] for name in ("litellm_metadata", "metadata") if isinstance(data.get(name), dict)]


def _route(data: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the model and the provider, as the catalog names them, of the deployment that was tried last.

    A deployment says so by `metering_model` and `metering_provider` of its `model_info`; else the names are those
    that LiteLLM has for it. The provider is None where no deployment was tried.
    """
    asked = str(data.get("model"))
    tried = _tried(data)
    deployment = tried.get("deployment")
    if not deployment:
        return asked, None
    info = tried.get("model_info") or {}
    model = info.get("metering_model") or tried.get("deployment_model_name") or asked
    provider = info.get("metering_provider")
    if not provider:
        try:
            _, provider, _, _ = litellm.get_llm_provider(deployment)
        except litellm.exceptions.BadRequestError:
            provider = deployment.partition("/")[0]
    return str(model), str(provider)


def _tried(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what LiteLLM noted of the deployment that it tried last.

    A fallback is noted in its logging object alone, which is gone once all providers have failed: then the first one
    tried stands beside the request.
    """
    details = getattr(data.get("litellm_logging_obj"), "model_call_details", None) or {}
    noted = (details.get("litellm_params") or {}).get("metadata")
    tried = [each for each in (noted, *_metadata(data)) if isinstance(each, dict) and each.get("deployment")]
    return tried[0] if tried else {}


def _plain(answer: Any) -> Any:
    """Return an answer, or a chunk of one, as plain JSON values."""
    return answer.model_dump() if hasattr(answer, "model_dump") else answer


def _counted(read: AnswerRead, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the usage of an answer whose provider told none, or that was left: counted by LiteLLM's tokenizer."""
    messages = data.get("messages")
    usage = None
    if messages and data.get("stream"):
        try:
            usage = usage_of(_plain(litellm.stream_chunk_builder(chunks=read.chunks, messages=messages)))
        except Exception:
            log.exception("LiteLLM cannot count a stream; its text is counted instead")
    if usage is not None and (usage["completion_tokens"] or not read.text):
        return usage
    return {
        "prompt_tokens": litellm.token_counter(text=str(messages or data.get("prompt") or data.get("input"))),
        "completion_tokens": litellm.token_counter(text=read.text),
    }


metering = LiteLLMMetering(meter_of_process())


async def custom_auth(request: Any, api_key: str | None) -> UserAPIKeyAuth:
    """Return who calls, for LiteLLM's `custom_auth`. Raises RefusedByMeter."""
    # LiteLLM may have loaded this module twice, from a path beside its configuration: there is one meter all the same.
    if not any(getattr(each, "meter", None) is metering.meter for each in litellm.callbacks):
        raise RefusedByMeter(
            structs.replace(
                refuse(RefusalCode.UNAVAILABLE),
                message="pipeline.gateway.litellm.metering is not among this proxy's callbacks",
            )
        )
    return await metering.caller(get_request_route(request), api_key)


_proxy: Any = sys.modules.get("litellm.proxy.proxy_server")
if _proxy is not None and _proxy.user_custom_auth is None:
    # So that a configuration that names the callback alone has the keys too, and is not open to everyone.
    _proxy.user_custom_auth = custom_auth
