"""Tell a partition that stands still from one that waits while other partitions of the worker decide.

Owns: for how long a partition has had input to post and has posted nothing.
Called by: `worker/partition.py`, which notes what happens and is asked by the watchdog.

Times are seconds of one monotonic clock, given as arguments.
"""

from __future__ import annotations


class Activity:
    """When a partition last moved on, that is, was opened, began to decide, or ended a unit of work."""

    def __init__(self, at_s: float) -> None:
        """Start at an instant, with nothing known of its input."""
        self.moved_at_s = at_s
        self._awaits_turn = False
        self._caught_up_at_s: dict[str, float] = {}

    def moved(self, at_s: float) -> None:
        """Note that it moved on."""
        self.moved_at_s, self._awaits_turn = at_s, False

    def awaits_turn(self) -> None:
        """Note that it waits until other partitions of the worker have decided."""
        self._awaits_turn = True

    def caught_up(self, topic: str, at_s: float) -> None:
        """Note that all the broker has of a topic is posted."""
        self._caught_up_at_s[topic] = at_s

    def still_s(self, topic: str, at_s: float, worker_moved_at_s: float) -> float:
        """Return for how many seconds, at least, a topic has had something to post and nothing moved.

        While it waits for its turn, it moves with the worker: `worker_moved_at_s` is when any partition last did.
        """
        moved_at_s = worker_moved_at_s if self._awaits_turn else self.moved_at_s
        return at_s - max(moved_at_s, self._caught_up_at_s.setdefault(topic, at_s))
