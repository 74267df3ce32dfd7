"""How often a sink inserts.

Owns: the turns that its partitions take. Pure: the clock is an argument.
Called by: `sink/partition.py`.

An insert costs the engine some 30 ms of CPU and a merge later, for 1 row or 1,000. So the sinks of a deployment
together make INSERTS_A_SECOND into a shard at most, however many partitions it has: each has the share of its partitions.
Partitions that have rows all the time then wait for each other: N of them are written every N / INSERTS_A_SECOND
seconds, in larger inserts. Up to 8 partitions, and where few have rows at a time, nobody waits.
"""

from __future__ import annotations

INSERTS_A_SECOND = 32
BURST_S = 1.0
"""Turns that nobody took are kept for so long."""


class Pace:
    """Hands out turns, so many a second in the long run, to whoever asks first."""

    def __init__(self) -> None:
        """Start with all turns that can be kept."""
        self._next_s = float("-inf")

    def wait_s(self, now_s: float, turns_a_second: float) -> float:
        """Take a turn, and return in how many seconds it comes."""
        turn_s = max(self._next_s, now_s - BURST_S)
        self._next_s = turn_s + 1 / turns_a_second
        return max(0.0, turn_s - now_s)


def turns_a_second(owned: int, partitions: int) -> float:
    """Return the turns of a sink that owns so many of all partitions of a shard."""
    return INSERTS_A_SECOND * max(1, owned) / partitions
