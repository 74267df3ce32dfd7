"""Tell a partition that stands still from one that waits while other partitions of the worker decide.

Owns: for how long a partition has had input to post and has posted nothing, and how long is too long.
Called by: `worker/partition.py` and `worker/service.py`, which note what happens; the watchdog there asks.

Times are seconds of one monotonic clock, given as arguments.
"""

from __future__ import annotations

STANDSTILL_LIMIT_S = 10.0
"""So long a partition may have something to post and stand still while the broker answers."""
AWAY_LIMIT_S = 60.0
"""So long a batch may be in hand while the broker does not answer or commits it. A commit gives up before
(`kafka/fenced.py`)."""


class BrokerContact:
    """Since when the broker has answered without a break, as far as the watchdog's own questions tell.

    While a lost broker's leaders move, nothing can be posted: that time is no standstill of the worker, and once the
    broker answers again the worker's clients have as long as ever to find the new leaders.
    """

    def __init__(self) -> None:
        """Start with a broker that answers, as its clients have just connected."""
        self._since_s, self.is_away = float("-inf"), False

    def failed(self) -> None:
        """Note that a question was not answered."""
        self.is_away = True

    def answered(self, at_s: float) -> None:
        """Note an answer."""
        if self.is_away:
            self._since_s, self.is_away = at_s, False

    def too_long(self, still_s: float, at_s: float, *, commits: bool) -> bool:
        """Return whether what has been still for some seconds, with input to post, is a standstill of the worker.

        `commits`: it waits for the broker to commit, whose part in transactions may be moving all by itself.
        """
        if self.is_away or commits:
            return still_s > AWAY_LIMIT_S
        return min(still_s, at_s - self._since_s) > STANDSTILL_LIMIT_S


class Activity:
    """When a partition last moved on, that is, was opened, began a batch or to decide, or ended a unit of work."""

    def __init__(self, at_s: float) -> None:
        """Start at an instant, with nothing known of its input."""
        self.moved_at_s = at_s
        self._awaits_turn = self.commits = False
        self._caught_up_at_s: dict[str, float] = {}

    def moved(self, at_s: float) -> None:
        """Note that it moved on."""
        self.moved_at_s, self._awaits_turn, self.commits = at_s, False, False

    def awaits_commit(self, at_s: float) -> None:
        """Note that it has decided, and that the rest is the broker's."""
        self.moved(at_s)
        self.commits = True

    def awaits_turn(self) -> None:
        """Note that it has a batch that waits: for an agent, or until other partitions of the worker have decided."""
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
