"""How soon the books go on after a kill: a few kills here, a hundred by `python -m bench r --full`."""

from __future__ import annotations

import random

from bench import recovery
from pipeline.kafka.reader import SESSION_TIMEOUT_MS

LIMIT_S = SESSION_TIMEOUT_MS / 1000 + 20
"""The session of the dead one, and room for a worker's start on a machine that has other things to do."""


async def test_debits_go_on_and_are_queryable_soon_after_a_kill() -> None:
    draw = random.Random(1)
    async with recovery.platform(2) as running:
        kills = [await recovery.restart(running, draw), await recovery.takeover(running, draw)]
    assert all(0 < kill.debited_s < LIMIT_S for kill in kills)
    assert all(kill.debited_s <= kill.queryable_s < LIMIT_S for kill in kills)
