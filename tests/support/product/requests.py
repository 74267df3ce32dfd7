"""Requests of an org in a running product, for what people see of them: made one by one, and waited for.

Owns: the catalog that prices them, sending them, and the wait until the API shows them.
Called by: the browser tests.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaProducer

from pipeline import ist
from tests.support.builders import event
from tests.support.product.dashboard import Dashboard, Org

MODELS = {"krutrim-2": "12.5", "sarvam-m": "0.015", "<b>gpt</b>": "250"}
"""Rupees per million tokens in, and four times that out."""


def price(product: Dashboard) -> None:
    """Publish the rates of MODELS, in force since long ago; krutrim-2 is served by a second provider too, at twice the price."""
    routes = [(model, "krutrim", inr) for model, inr in MODELS.items()] + [("krutrim-2", "yotta", "25")]
    rates = [
        {
            "model": model,
            "provider": provider,
            "effective_from": "2020-01-01T00:00:00+05:30",
            "input_inr_per_mtok": inr,
            "output_inr_per_mtok": str(float(inr) * 4),
        }
        for model, provider, inr in routes
    ]
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "catalog.json"
        file.write_text(json.dumps({"rates": rates}), encoding="utf-8")
        done = product.shop.metering("catalog", "apply", str(file))
    assert done.returncode == 0, done.stderr


def request(org: Org, days_ago: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a new request of an org, so many days ago; changes are those of `builders.event`."""
    at_ms = int(time.time() * 1000) - days_ago * ist.DAY_MS
    return event(
        f"r-{uuid4()}", subject=org.name, source="gateway/seen", time=ist.isoformat(at_ms), **changes
    )


def send(org: Org, requests: Sequence[dict[str, Any]]) -> None:
    """Send requests in their order, and wait until the API shows all that the org has sent with them."""
    shop = org.dashboard.shop
    before = shop.get("/me/activity", org.name)["totals"]["requests"]
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _send(shop.product.servers, requests)).result(60)
    shown = sum(1 for each in requests if _days_ago(each) < 30)

    def all_there() -> bool:
        return bool(shop.get("/me/activity", org.name)["totals"]["requests"] == before + shown)

    shop.until(all_there, "the requests do not show")


def _days_ago(made: dict[str, Any]) -> int:
    now_ms = int(time.time() * 1000)
    return ist.day_of(now_ms) - ist.day_of(ist.ms_of(datetime.fromisoformat(made["time"])))


async def _send(servers: str, requests: Sequence[dict[str, Any]]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", linger_ms=5)
    await producer.start()
    try:
        sent = [
            await producer.send("metering.requests", json.dumps(each).encode(), key=each["subject"].encode())
            for each in requests
        ]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
