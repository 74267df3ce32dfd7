"""Processes that get too little of their machine: they stand for most of the time, and run in between.

Called by: tests/runbooks, for a broker that is slow and for workers that are.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

RUNS_S = 0.03
"""For how long they run at a time: whatever takes several of a broker's answers takes several times."""


@dataclass
class Starved:
    """For how long they stand after each RUNS_S, in seconds; it may be changed meanwhile."""

    stands_s: float


@contextmanager
def starving(stands_s: float, *signals: Callable[[signal.Signals], None]) -> Iterator[Starved]:
    """Starve processes, each by what sends it a signal, for as long as the block runs."""
    starved, ending = Starved(stands_s), threading.Event()

    def starve() -> None:
        while not ending.wait(RUNS_S):
            for send in signals:
                send(signal.SIGSTOP)
            ending.wait(starved.stands_s)
            for send in signals:
                send(signal.SIGCONT)

    thread = threading.Thread(target=starve, daemon=True)
    thread.start()
    try:
        yield starved
    finally:
        ending.set()
        thread.join()
