"""Each role of the product works with the rights of its own user, as `metering topics --acls` sets them, and logs no error.

Not in `make test`: part of `make cluster`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pipeline.gateway import Gateway
from tests.support.builders import event, time_text
from tests.support.secured.cluster import SecuredCluster
from tests.support.secured.product import USERS, SecuredProduct, prepared

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARTITIONS = 2
LIMIT_S = 30.0
CATALOG = Path(__file__).parents[2] / "deploy" / "catalog.yaml"


@pytest_asyncio.fixture(loop_scope="module")
async def product(tmp_path: Path) -> AsyncIterator[SecuredProduct]:
    """One broker whose users have the rights of their roles, and the topics; no role runs yet."""
    cluster = SecuredCluster(tmp_path, USERS)
    async with prepared(cluster, tmp_path, PARTITIONS, seed=1) as running:
        yield running


async def test_every_role_works_with_the_rights_of_its_own_user(
    product: SecuredProduct, tmp_path: Path
) -> None:
    product.add("worker-0", "worker").start()
    product.add("sink-0", "sink").start()
    product.add_server().start()
    await product.ready()
    operator = "operator"
    product.metering(operator, "catalog", "apply", str(CATALOG))
    product.metering(operator, "org", "create", "acme", "--name", "Acme", "--email", "a@acme.example")
    key = product.metering(operator, "key", "create", "--org", "acme", "--name", "one")
    async with Gateway(
        kafka_url=product.cluster.url,
        kafka_security=product.cluster.security("gateway"),
        node="mum-1",
        spool_dir=tmp_path / "spool",
    ) as gateway:
        assert gateway.authenticate(key["key"]) is not None
        made = event(subject="acme", time=time_text(_now_ms()), data__key_id=key["key_id"])
        for name in ("id", "source"):
            made.pop(name, None)
        for _ in range(3):
            await gateway.publish(made)
        assert gateway.admit("acme", key["key_id"]) is None
    report: Any = {}
    for _ in range(int(LIMIT_S * 2)):
        report = product.metering("verify", "verify")
        if report["requests"] == 3:
            break
        await asyncio.sleep(0.5)
    assert (report["requests"], report["differences"]) == (3, [])
    assert product.metering(operator, "redrive")["redriven"] == 0
    assert not re.search(r"ERROR|CRITICAL|Traceback", product.words_of_roles()), product.words_of_roles()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
