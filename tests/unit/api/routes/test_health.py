"""What `/healthz` answers from memory: the parts are asked once, however many ask and however long a part takes."""

from __future__ import annotations

import asyncio
import time
from unittest.mock import Mock

from pipeline.api.routes.health import KeptHealth
from pipeline.api.services.context import AppContext
from tests.support.builders import rate_table


async def test_who_waits_for_a_slow_part_gets_what_the_first_one_found() -> None:
    asked = 0

    async def slow() -> str | None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(1.2)  # longer than an answer is kept
        return "away"

    context = AppContext(
        database=Mock(),
        key_names={},
        rates=rate_table(),
        session_secret="s" * 32,
        now_ms=lambda: time.time_ns() // 1_000_000,
        checks={"clickhouse": slow},
    )
    kept = KeptHealth(context)
    found = await asyncio.gather(*(kept.problems() for _ in range(10)))
    assert found == [{"clickhouse": "away"}] * 10
    assert asked == 1
