"""What came of a run against the doors."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Fuzzed:
    """How many requests came to what, by status (0: not answered) and by kind; and the first that went wrong."""

    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
