"""Books that nobody verified, and books that were changed."""

from __future__ import annotations

import time

from pipeline import ist
from tests.support.runbooks.load import ORGS
from tests.support.runbooks.walk import Walk


def test_nobody_verified_the_books(walk: Walk) -> None:
    walk.fires("MeteringNotVerified")
    walk.look("MeteringNotVerified")
    walk.over("MeteringNotVerified")


def test_the_books_differ(walk: Walk) -> None:
    walk.quiet("MeteringBooksDiffer")
    today = ist.date_of(ist.day_of(int(time.time() * 1000)))
    walk.statement(
        f"ALTER TABLE metering.usage_day DELETE WHERE org = '{ORGS[0]}' SETTINGS mutations_sync = 2"
    )
    assert "usage_day" in walk.do("MeteringBooksDiffer", "metering verify", code=1).text
    walk.fires("MeteringBooksDiffer")
    walk.do("MeteringBooksDiffer", "metering rebuild roll-ups", DAY=today.isoformat())
    walk.do("MeteringBooksDiffer", "metering verify")
    walk.over("MeteringBooksDiffer")
