"""The open reservations of one key that name no request: the smallest one first.

Owns: finding the smallest, or the oldest of an amount, however many are open.
Called by: `gateway/admission/holds.py`. Pure.

Reservations end oldest first within an amount, whether they are taken, released or expire. So an amount's
numbers are a queue, and the amounts a heap. An amount whose queue is empty stays in both until it is on
top or such amounts are the most: taking and adding cost the logarithm of the number of amounts.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush

EMPTY_KEPT = 16


class ReservationHeap:
    """Reservation numbers by amount, a heap of amounts over a queue each. Numbers are added in rising order."""

    __slots__ = ("_amounts", "_empty", "_queues")

    def __init__(self) -> None:
        """Start with none."""
        self._queues: dict[int, deque[int]] = {}
        self._amounts: list[int] = []
        self._empty = 0

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self._empty < len(self._queues)

    def add(self, amount_nano: int, number: int) -> None:
        """Add a number, above all there are."""
        queue = self._queues.get(amount_nano)
        if queue is None:
            self._queues[amount_nano] = deque((number,))
            heappush(self._amounts, amount_nano)
            return
        if not queue:
            self._empty -= 1
        queue.append(number)

    def find(self, amount_nano: int | None = None) -> int | None:
        """Return the oldest number of an amount, or of the smallest there is; None where there is none."""
        if amount_nano is None:
            self._drop_empty_tops()
            return self._queues[self._amounts[0]][0] if self._amounts else None
        queue = self._queues.get(amount_nano)
        return queue[0] if queue else None

    def remove(self, amount_nano: int) -> None:
        """Remove the oldest number of an amount. Raises KeyError or IndexError where there is none."""
        queue = self._queues[amount_nano]
        queue.popleft()
        if not queue:
            self._empty += 1
            if self._empty > EMPTY_KEPT + len(self._queues) // 2:
                self._forget_empty()

    def _drop_empty_tops(self) -> None:
        while self._amounts and not self._queues[self._amounts[0]]:
            del self._queues[heappop(self._amounts)]
            self._empty -= 1

    def _forget_empty(self) -> None:
        self._queues = {amount: queue for amount, queue in self._queues.items() if queue}
        self._amounts = list(self._queues)
        heapify(self._amounts)
        self._empty = 0
