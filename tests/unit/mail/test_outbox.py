"""The outbox: what leaves it, what comes back, and when it is due."""

from __future__ import annotations

from pipeline.mail import outbox
from pipeline.mail.outbox import AGE_MAX_MS, BACK_OFF_MAX_MS, WAITING_MAX, Outbox, again, is_too_old
from tests.support.mails import MAIL


def test_it_comes_back_from_its_record_as_it_was() -> None:
    box = Outbox().read_up_to(5).back(again(MAIL, 1_000, 1, 2_000, 30_000))
    assert outbox.decode(outbox.encode(box)) == box
    assert box.next_offset == 5


def test_the_first_due_is_taken_and_only_it() -> None:
    early, late = again(MAIL, 0, 1, 0, 10), again(MAIL, 0, 3, 0, 1_000)
    box = Outbox().back(late).back(early)
    assert box.first_due() is early
    assert box.without(early).waiting == (late,)
    assert Outbox().first_due() is None


def test_the_wait_doubles_up_to_its_limit() -> None:
    waits = [again(MAIL, 0, tries, 0, 30_000).due_ms for tries in range(1, 12)]
    assert waits[:4] == [30_000, 60_000, 120_000, 240_000]
    assert waits[-1] == BACK_OFF_MAX_MS
    assert again(MAIL, 0, 10_000, 0, 30_000).due_ms == BACK_OFF_MAX_MS


def test_it_is_full_at_its_limit() -> None:
    item = again(MAIL, 0, 1, 0, 1)
    assert not Outbox(0, (item,) * (WAITING_MAX - 1)).is_full
    assert Outbox(0, (item,) * WAITING_MAX).is_full


def test_a_day_makes_a_mail_too_old() -> None:
    assert not is_too_old(0, AGE_MAX_MS - 1)
    assert is_too_old(0, AGE_MAX_MS)
