"""The state machine is worth its time only if it finds mistakes: these are planted, and it must."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from pipeline.accounts import verdicts
from pipeline.catalog.rating import cost_nano
from pipeline.posting import duplicates, meters, requests, unit
from pipeline.posting.state import StateError
from tests.support.books_machine import BooksMachine
from tests.support.builders import utc_day_at

Patch = Callable[[pytest.MonkeyPatch], Any]
_serial = count()

MISTAKES: dict[str, Patch] = {
    "months in UTC": lambda patch: patch.setattr(meters, "day_at", utc_day_at),
    "no event is ever a duplicate": lambda patch: patch.setattr(
        requests, "mark_of", lambda *_: next(_serial).to_bytes(16)
    ),
    "ids without their source": lambda patch: patch.setattr(
        requests, "mark_of", lambda _, event_id: event_id[:2].encode().ljust(16)
    ),
    "a ring lost in the restore": lambda patch: patch.setattr(
        duplicates.Ring, "restored", classmethod(lambda cls, _: cls())
    ),
    "numbers not saved": lambda patch: patch.setattr(
        duplicates.NumberedSources, "take_changes", lambda *_: iter(())
    ),
    "numbers lost in the restore": lambda patch: patch.setattr(
        duplicates.RecentNumbers, "restored", classmethod(lambda cls, _: cls())
    ),
    "sums not charged": lambda patch: patch.setattr(meters.Meters, "post", lambda _: None),
    "moved events not remembered": lambda patch: patch.setattr(requests, "_remember", lambda *_: None),
    "cached tokens charged twice": lambda patch: patch.setattr(
        requests,
        "cost_nano",
        lambda rate, prompt, cached, done, *_: (
            prompt * rate.input_nano + cached * rate.cached_nano + done * rate.output_nano
        ),
    ),
    "reasoning beside the completion not charged": lambda patch: patch.setattr(
        requests,
        "cost_nano",
        lambda rate, prompt, cached, done, *_: cost_nano(rate, prompt, cached, done),
    ),
    "only BYOK is free": lambda patch: patch.setattr(requests, "is_free", lambda data: data.byok),
    "gateways told once and never again": lambda patch: patch.setattr(
        verdicts,
        "due_verdict",
        lambda account, _: (
            verdicts.Verdict(account.org, account.spending.balance_nano, ())
            if account.spending.verdict_nano is None
            else None
        ),
    ),
    "late events charged": lambda patch: patch.setattr(requests, "LATE_MS", 10**15),
    "ids start anew with each unit": lambda patch: patch.setattr(unit.Unit, "took_ids", lambda *_: None),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MISTAKES[mistake](monkeypatch)
    # A mistake in the journal is also found by who makes the state of it again.
    with pytest.raises((AssertionError, StateError)):
        run_state_machine_as_test(
            BooksMachine,
            settings=settings(
                max_examples=400,
                stateful_step_count=25,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
