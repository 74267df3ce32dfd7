"""`metering rebuild` under a server that is killed at its steps: run again, it goes to its right end."""

from __future__ import annotations

import asyncio
import os
import signal

import httpx2
import pytest

from pipeline.api.routes.operator import TOKEN_HEADER
from pipeline.sink.rebuild import CLICKHOUSE, ROLL_UPS
from tests.support.product.processes import OPERATOR_TOKEN
from tests.support.product.rebuilds import POINTS_OF
from tests.support.product.storm import Storm

LIMIT_S = 120.0
COMMANDS = {"clickhouse": CLICKHOUSE, "roll-ups": ROLL_UPS}
WORST = {"clickhouse": ["rebuild.emptied"], "roll-ups": ["rebuild.replaced"]}
"""The step at which most is missing, or one roll-up is made anew and the other is not; `make crash` takes every one."""

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def _rebuild(storm: Storm, work: str) -> httpx2.Response:
    """Have the server rebuild. Raises httpx2.HTTPError where it ends meanwhile."""
    server = storm.running.server
    assert server is not None
    url, headers = f"{storm.running.http_url}/operator/rebuild/{work}", {TOKEN_HEADER: OPERATOR_TOKEN}
    async with asyncio.timeout(LIMIT_S), httpx2.AsyncClient(trust_env=False, timeout=LIMIT_S) as client:
        while True:
            try:
                return await client.post(url, headers=headers)
            except httpx2.ConnectError:
                if not server.running:
                    raise
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("work", list(WORST))
async def test_a_rebuild_that_was_killed_is_run_again_to_the_right_end(storm: Storm, work: str) -> None:
    """Each run goes a step further than the one before, on what that one left, while events come in."""
    server, traffic = storm.running.server, storm.traffic
    assert server is not None
    await traffic.publish(400)
    for point in POINTS_OF[COMMANDS[work]] if "METERING_TEST_CHAOS_SECONDS" in os.environ else WORST[work]:
        server.kill()
        server.start(crash_at=point)
        await traffic.publish(100)
        with pytest.raises(httpx2.HTTPError):
            await _rebuild(storm, work)
        assert server.process is not None
        assert server.process.wait(LIMIT_S) == -signal.SIGKILL, f"{point}\n{server.words()}"
    server.start()
    answer = await _rebuild(storm, work)
    assert answer.status_code == httpx2.codes.OK, answer.text
    await storm.books_agree()
