"""Tell differences that last from what is behind for a moment, while traffic goes on.

Owns: how often is looked, and when a difference counts.
Called by: `operations/verify.py`, for roll-ups beside their rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pipeline.operations.audit import Difference

SAME_LOOKS = 4
"""A roll-up may be a moment behind its rows. A difference counts when so many looks in a row find it with the same figures."""
LOOKS_MAX = 15
"""Under traffic the figures of both sides may move from look to look. What each of so many looks finds counts too, by the last
one's figures: where three of ten looks catch a roll-up behind its rows, 15 in a row do so once in 70 million runs."""
BETWEEN_LOOKS_S = 1.0


async def lasting_differences(look: Callable[[], Awaitable[set[Difference]]]) -> list[Difference]:
    """Return what every look found to differ, by the figures of the last one. A difference is known by its place and what it is of."""
    found = _known(await look())
    looks = same = 1
    while found and same < SAME_LOOKS and looks < LOOKS_MAX:
        await asyncio.sleep(BETWEEN_LOOKS_S)
        now = _known(await look())
        still = {known: now[known] for known in found if known in now}
        is_same = all(found[known] == difference for known, difference in still.items())
        found, looks, same = still, looks + 1, same + 1 if is_same else 1
    return [found[known] for known in sorted(found)]


def _known(differences: set[Difference]) -> dict[tuple[str, str], Difference]:
    return {(each.place, each.of): each for each in differences}
