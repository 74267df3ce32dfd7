"""How ClickHouse may misbehave over HTTP: each way by name, how often, and how often it did.

Owns: the kinds of faults, the file that says which are in force, and the file that counts them. Both are
files, so that they outlive the process that injects faults when that is killed.
Called by: tests/support/clickhouse/front.py, which injects them, and the tests, which choose them.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from enum import StrEnum
from pathlib import Path

import msgspec
from msgspec import Struct

SERVED = "served"
INSERT, OTHER = "insert", "other"
"""The kinds of statements."""


class Fault(StrEnum):
    """One way to misbehave; the value is its name in a report."""

    RESET = "done, connection reset before the answer"
    CUT = "done, answer cut off"
    ERROR_AFTER = "done, then answered with an error"
    SLOW = "done, answered slowly"
    LATE = "done and answered after the client's time-out"
    LATER = "connection reset at once, done seconds later"
    CLOSED = "not done, connection closed without an answer"
    EARLY = "not done, cut off after an early status 200"
    HIDDEN = "not done, error under status 200"
    REFUSED = "refused with an error code"
    BUSY = "503 of a proxy, without an error code"


class Mixture(Struct, frozen=True):
    """Which faults are in force: each statement meets one with the probability `share`.

    `slow_s` is how long a slow answer takes at most, `late_s` how long a late one takes.
    """

    share: float = 0.0
    kinds: tuple[Fault, ...] = tuple(Fault)
    slow_s: float = 1.0
    late_s: float = 8.0


NONE = Mixture()


class Choice:
    """Draws faults by the mixture in force, each kind as often as any other, and counts them."""

    def __init__(self, home: Path, seed: str) -> None:
        """Read the mixture from, and count in, a directory."""
        self._home = home
        self._random = random.Random(seed)
        self._decks: dict[str, list[Fault]] = {}
        self._lock = threading.Lock()
        self._counts = os.open(home / "faults.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def draw(self, kind_of_statement: str) -> tuple[Fault | None, Mixture, random.Random]:
        """Return what to do to a statement, the mixture in force, and chance for the details."""
        mixture = read(self._home)
        with self._lock:
            chance = random.Random(self._random.random())
            fault = self._next(kind_of_statement, mixture) if chance.random() < mixture.share else None
        os.write(self._counts, f"{kind_of_statement}\t{fault or SERVED}\n".encode())
        return fault, mixture, chance

    def _next(self, kind_of_statement: str, mixture: Mixture) -> Fault:
        # A shuffled deck that is dealt to its end: a short run meets every kind too.
        deck = [fault for fault in self._decks.get(kind_of_statement, ()) if fault in mixture.kinds]
        if not deck:
            deck = list(mixture.kinds)
            self._random.shuffle(deck)
        self._decks[kind_of_statement] = deck
        return deck.pop()


def read(home: Path) -> Mixture:
    """Return the mixture in force; none where none was set."""
    try:
        return msgspec.json.decode((home / "mixture.json").read_bytes(), type=Mixture)
    except FileNotFoundError:
        return NONE


def put_in_force(home: Path, mixture: Mixture) -> None:
    """Set the mixture, from the next statement on."""
    new = home / "mixture.new"
    new.write_bytes(msgspec.json.encode(mixture))
    new.replace(home / "mixture.json")


def counts(home: Path) -> dict[str, Counter[str]]:
    """Return how often each fault was injected, and how often none, by kind of statement."""
    found: dict[str, Counter[str]] = {}
    log = home / "faults.log"
    for line in log.read_text().splitlines() if log.exists() else ():
        kind, _, fault = line.partition("\t")
        found.setdefault(kind, Counter())[fault] += 1
    return found
