"""Malformed HTTP requests in great numbers against the whole product: none may fail, hang or be reset.

`fuzz_doors` sends a seed's requests over raw sockets, then those that the OpenAPI document suggests, and says what
went wrong: an answer of 500 or more, one that does not fit the document, none at all, a process that ended, or books
that differ afterwards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx2

from pipeline.api.http.sessions import ROLES, issue
from tests.fuzz.documented import AsDocumented
from tests.fuzz.malformed import Maker, RawRequest, Routes
from tests.fuzz.outcome import Fuzzed
from tests.fuzz.wire import exchange
from tests.support.api.routes import ASKS_OWNER, verbs_of_the_product
from tests.support.product.processes import SESSION_SECRET
from tests.support.product.razorpay import ADDRESS, Shop

ORGS = tuple(f"fuzzed-{n}" for n in range(6))
AT_ONCE = 128
WRONG_MAX = 10
SHOWN_LIMIT_S = 60.0
UNLIMITED = {
    "METERING_ADDRESS_REQUESTS_PER_S": "1000000",
    "METERING_SESSION_REQUESTS_PER_S": "1000000",
}
"""For the product that is fuzzed: all of it comes from one address."""


def fuzz_doors(
    shop: Shop, requests: int, documented: int, seed: int, limit_s: float = float("inf")
) -> Fuzzed:
    """Send so many raw requests, those of `limit_s` at most, and so many that the document suggests; what came of it."""
    fuzzed = Fuzzed()
    before = shop.product.process_ids()
    document: dict[str, Any] = shop.http.get("/openapi.json").json()
    address = urlsplit(shop.product.http_url)
    assert address.hostname is not None
    assert address.port is not None
    maker = Maker(seed, _routes(document, _ids(shop)))
    until_s = time.monotonic() + limit_s
    asyncio.run(_send(address.hostname, address.port, maker, requests, until_s, fuzzed))
    if documented and not fuzzed.wrong:
        AsDocumented(document, shop.product.http_url, _tokens(), seed, fuzzed).ask(documented)
    after = shop.product.process_ids()
    if after != before:
        fuzzed.wrong.append(f"a process ended: {before} before, {after} after\n{shop.product.all_words()}")
    report = asyncio.run(shop.product.verify())
    fuzzed.wrong += [str(difference) for difference in report.differences]
    return fuzzed


async def _send(host: str, port: int, maker: Maker, requests: int, until_s: float, fuzzed: Fuzzed) -> None:
    """Send raw requests, some of them at once, until all are sent, the time is over or some have gone wrong."""
    left = iter(range(requests))

    async def client() -> None:
        for number in left:
            request = maker.make()
            came = await exchange(host, port, request)
            fuzzed.statuses.update(came.statuses or [0])
            fuzzed.kinds[request.what] += 1
            if came.wrong or any(
                status >= 500 for status in came.statuses if not _says_not_ready(status, request)
            ):
                said = came.wrong or f"answered {came.statuses}"
                fuzzed.wrong.append(f"request {number}, {request.what}: {said}: {_shown(request)}")
            if len(fuzzed.wrong) >= WRONG_MAX or time.monotonic() > until_s:
                return

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))


def _routes(document: dict[str, Any], ids: Sequence[str]) -> Routes:
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    named = {each["name"] for operation in operations for each in operation.get("parameters", ())}
    tokens = _tokens()
    return Routes(
        verbs=sorted(verbs_of_the_product()),
        bodies={(verb, path): body for path, tries in ASKS_OWNER.items() for verb, _, body in tries if body},
        parameters=sorted(named),
        ids=ids,
        sessions=[
            *(f"Authorization: Bearer {token}".encode() for token in tokens),
            *(f"Cookie: br_session={token}\r\nSec-Fetch-Site: same-origin".encode() for token in tokens),
            b"Authorization: Bearer forged",
        ],
    )


def _tokens() -> list[str]:
    now_ms = int(time.time() * 1000)
    return [
        issue(SESSION_SECRET, org, ROLES[n % len(ROLES)], f"x@{org}.example", now_ms)
        for n, org in enumerate(ORGS)
    ]


def _ids(shop: Shop) -> list[str]:
    """Give each org an address, a key and an order; their ids."""
    ids = ["0", "1024", "pay_1", "560001"]
    for org in ORGS:
        shop.put("/me/billing/address", org, ADDRESS)
        ids.append(shop.post("/me/keys", org, {"name": "one"})["key_id"])
        ids.append(shop.ordered(org))
    for org in ORGS:
        # Until the database has what was just done, an answer may be 503: on a machine that is busy for longer than a request waits.
        shop.until(partial(_is_shown, shop, org), f"the entries of {org} are shown", SHOWN_LIMIT_S)
    return ids


def _is_shown(shop: Shop, org: str) -> bool:
    return shop.call("GET", "/me/billing", org)[0] == httpx2.codes.OK


def _says_not_ready(status: int, request: RawRequest) -> bool:
    """Return whether a status may be what `/healthz` has to say: on a machine that is too busy a part is not ready."""
    return status == 503 and any(b"/healthz" in piece for piece in request.pieces)


def _shown(request: RawRequest) -> str:
    return repr(b"".join(request.pieces)[:600])
