"""Live traffic: make the drawn requests over HTTP, as the orgs' own programs would.

Owns: the pace, what is said when a key is refused for the first time and served again, and the pause of a
key that is refused.
Called by: `demo/main.py`. Next: the stand-in gateway, which admits, answers and publishes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx2
import msgspec

from pipeline.demo.platform import ORGS
from pipeline.demo.traffic import Call, live
from pipeline.standin.gateway import BYOK, SIMULATE

UNDER_WAY_MAX = 200
SAY_EVERY_S = 60.0
PAUSE_S = 5.0
"""A refused key tries again after this long: so a top-up or a raised budget shows soon."""
_LIMIT_S = 30.0
_ERROR_FROM = 400
_PAUSING = ("insufficient_credits", "budget_exceeded", "daily_limit_reached", "invalid_api_key")
_NAMES = {org.org: org.name for org in ORGS}


class LiveTraffic:
    """Requests at a mean rate, until cancelled."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        url: str,
        api_keys: Mapping[str, str],
        say: Callable[[str], None],
        data_dir: Path,
    ) -> None:
        """Send to the gateway at `url`, each key with its secret, and tell what happens with `say`.

        `data_dir` is named in the commands that are told.
        """
        self._client, self._url, self._api_keys, self._say = client, url, api_keys, say
        self._data_dir = data_dir
        self._paused_until_s: dict[str, float] = {}
        self._refused: dict[str, str] = {}
        self.served = self.failed = self.refused = 0

    async def run(self, seed: int, rate: float) -> None:
        """Make requests for good, `rate` a second on average."""
        places = asyncio.Semaphore(UNDER_WAY_MAX)
        next_s = say_at_s = time.monotonic()
        async with asyncio.TaskGroup() as calls:
            for drawn in live(seed):
                next_s = max(next_s + drawn.gap / rate, time.monotonic() - 1.0)
                await asyncio.sleep(max(next_s - time.monotonic(), 0))
                await places.acquire()
                task = calls.create_task(self.make(drawn.call))
                task.add_done_callback(lambda _: places.release())
                if time.monotonic() - say_at_s > SAY_EVERY_S:
                    say_at_s = time.monotonic()
                    self._say(
                        f"Live: {self.served:,} served, {self.failed:,} failed, {self.refused:,} refused."
                    )

    async def make(self, call: Call) -> None:
        """Make one request, unless its key pauses."""
        key_id = call.key.key_id
        if self._paused_until_s.get(key_id, 0) > time.monotonic():
            return
        try:
            answer = await self._client.post(
                f"{self._url}/v1/chat/completions",
                content=body_of(call),
                headers=self._headers(call),
                timeout=_LIMIT_S,
            )
        except httpx2.HTTPError:
            self.failed += 1
            return
        self._take(call, answer)

    def _headers(self, call: Call) -> dict[str, str]:
        headers = {
            "Authorization": f"Bearer {self._api_keys[call.key.key_id]}",
            "Content-Type": "application/json",
        }
        if call.key.byok:
            headers[BYOK] = "1"
        if call.simulate is not None:
            headers[SIMULATE] = call.simulate
        return headers

    def _take(self, call: Call, answer: httpx2.Response) -> None:
        key_id = call.key.key_id
        code = _code_of(answer)
        if code in _PAUSING:
            self.refused += 1
            self._paused_until_s[key_id] = time.monotonic() + PAUSE_S
            if self._refused.get(key_id) != code:
                self._refused[key_id] = code
                self._say(_refusal(call, answer.status_code, code, self._data_dir))
            return
        if key_id in self._refused and answer.status_code < _ERROR_FROM:
            del self._refused[key_id]
            self._say(f"Served again: {_NAMES[call.org]}, key {call.key.name!r}.")
        if answer.status_code < _ERROR_FROM:
            self.served += 1
        else:
            self.failed += 1


def body_of(call: Call) -> bytes:
    """Return the body of a request: a prompt of so many words, an answer of so many."""
    body: dict[str, object] = {
        "model": call.model,
        "messages": [{"role": "user", "content": "namaste " * call.prompt_tokens}],
        "max_completion_tokens": call.completion_tokens,
        "stream": call.is_stream,
    }
    if call.is_cached:
        body["prompt_cache_key"] = call.org
    return msgspec.json.encode(body)


def _code_of(answer: httpx2.Response) -> str | None:
    if answer.status_code < _ERROR_FROM:
        return None
    try:
        return str(msgspec.json.decode(answer.content)["error"]["code"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return None


def _refusal(call: Call, status: int, code: str, data_dir: Path) -> str:
    who = f"{_NAMES[call.org]}, key {call.key.name!r}"
    hints = {
        "insufficient_credits": (
            f"{_NAMES[call.org]} has run dry. Top it up: metering credit {call.org} --inr 50 "
            f"--reason more --data-dir {data_dir}"
        ),
        "budget_exceeded": (
            f"its budget of the month is spent. Raise it: metering key set {call.key.key_id} "
            f"--org {call.org} --budget-inr 500 --data-dir {data_dir}"
        ),
    }
    return f"Refused: {who}: {status} {code}: {hints.get(code, 'it goes on when the limit allows')}"
