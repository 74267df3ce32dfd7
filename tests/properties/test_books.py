"""The books, driven at random beside a naive second set of books that must agree after every unit.

Two partitions; events new, published again, misplaced, unpriced, late, free; commands; the clock over the
turns of months and of a year; crashes at a unit's end and in its midst, restored from the state topic.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from tests.support.books_machine import BooksMachine

BooksMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=list(HealthCheck),
)
TestBooks = BooksMachine.TestCase
