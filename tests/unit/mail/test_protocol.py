"""The mailer's protocol: a mail is taken out durably before it is sent, and comes back only when surely not taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline import topics
from pipeline.accounts.notices import encode_mail
from pipeline.formats import NewerFormatError
from pipeline.mail import outbox
from pipeline.mail.outbox import AGE_MAX_MS, WAITING_MAX, Delivery, Outbox, again
from pipeline.mail.protocol import (
    OUTBOX_KEY,
    Ended,
    Fate,
    HandOver,
    MailStep,
    MailTurns,
)
from pipeline.steps import (
    AnotherTopicError,
    Beginning,
    Commit,
    Idle,
    LastHeaders,
    Now,
    Restore,
    Taken,
    TopicIds,
    TopicPlace,
)
from tests.support import scripted
from tests.support.builders import Record
from tests.support.mails import MAIL, SENDER

NOW_MS = 5_000
HEAD = Record(topics.MAIL, offset=7, timestamp=NOW_MS, value=encode_mail(MAIL))


def _turns(*, has_server: bool = True) -> MailTurns:
    return MailTurns("metering", 2, SENDER, first_retry_ms=100, has_server=has_server)


def _answers(delivery: Delivery = Delivery.SENT, now_ms: int = NOW_MS) -> Callable[[MailStep], object]:
    def answer(step: MailStep) -> object:
        if isinstance(step, HandOver):
            return delivery, "a word"
        return now_ms if isinstance(step, Now) else None

    return answer


def _kept(step: MailStep) -> Outbox:
    assert isinstance(step, Commit)
    [output] = step.outputs[TopicPlace(topics.MAIL_STATE, 2)]
    assert output.key == OUTBOX_KEY
    return outbox.decode(output.value or b"")


def test_a_mail_leaves_the_topic_for_good_before_it_is_handed_over() -> None:
    idle, steps = scripted.run(_turns().turn([HEAD]), _answers())
    assert idle is None
    assert scripted.names(steps) == ["Now", "Commit", "Taken", "Now", "HandOver", "Ended"]
    assert _kept(steps[1]) == Outbox(8)
    assert (steps[2], steps[-1]) == (Taken(1), Ended(Fate.SENT, MAIL.id, "a word"))


def test_a_mail_that_was_not_taken_waits_and_is_tried_again_when_due() -> None:
    turns = _turns()
    _, steps = scripted.run(turns.turn([HEAD]), _answers(Delivery.NOT_TAKEN))
    assert _kept(steps[-1]).waiting == (again(MAIL, NOW_MS, 1, NOW_MS, 100),)
    idle, _ = scripted.run(turns.turn([]), _answers())
    assert idle == Idle(NOW_MS + 100)
    _, steps = scripted.run(turns.turn([HEAD]), _answers(now_ms=NOW_MS + 100))
    assert scripted.names(steps) == ["Now", "Commit", "Retried", "Now", "HandOver", "Ended"]
    assert _kept(steps[1]) == Outbox(8)


@pytest.mark.parametrize("delivery", [Delivery.UNCLEAR, Delivery.REFUSED])
def test_a_mail_that_may_have_been_taken_or_never_will_be_does_not_come_back(delivery: Delivery) -> None:
    turns = _turns()
    _, steps = scripted.run(turns.turn([HEAD]), _answers(delivery))
    assert steps[-1] == Ended(Fate(delivery.value), MAIL.id, "a word")
    assert turns.outbox == Outbox(8)


def test_a_mail_that_is_too_old_or_none_is_not_handed_over() -> None:
    _, steps = scripted.run(_turns().turn([HEAD]), _answers(now_ms=NOW_MS + AGE_MAX_MS))
    assert steps[-1] == Ended(Fate.EXPIRED, MAIL.id, "after 0 tries")
    nonsense = Record(topics.MAIL, offset=7, value=b"{}")
    _, steps = scripted.run(_turns().turn([nonsense]), _answers())
    assert isinstance(steps[-1], Ended)
    assert (steps[-1].fate, steps[-1].name) == (Fate.INVALID, "offset 7")


def test_nothing_is_read_while_too_many_wait_and_nothing_sent_without_a_server() -> None:
    full = _turns()
    full.outbox = Outbox(0, (again(MAIL, NOW_MS, 1, NOW_MS, 100),) * WAITING_MAX)
    assert scripted.run(full.turn([HEAD]), _answers())[0] == Idle(NOW_MS + 100)
    _, steps = scripted.run(_turns(has_server=False).turn([HEAD]), _answers())
    assert scripted.names(steps) == ["Now", "Commit", "Taken", "Ended"]
    assert steps[-1] == Ended(Fate.SKIPPED, count=1)


def test_whoever_takes_over_goes_on_where_the_outbox_says_or_the_topic_begins() -> None:
    def kept_and_beginning(first_offset: int) -> Callable[[MailStep], object]:
        kept = {OUTBOX_KEY: outbox.encode(Outbox(5))}

        def answer(step: MailStep) -> object:
            if isinstance(step, TopicIds):
                return {}
            if isinstance(step, LastHeaders):
                return None
            return kept if isinstance(step, Restore) else first_offset

        return answer

    assert scripted.run(_turns().take_over(), kept_and_beginning(3))[0] == 5
    offset, steps = scripted.run(_turns().take_over(), kept_and_beginning(9))
    assert (offset, scripted.names(steps)) == (
        9,
        ["Fence", "Restore", "LastHeaders", "TopicIds", "Beginning"],
    )


def test_another_topic_of_mails_stops_it() -> None:
    def answer(kept: Outbox, topic_id: str) -> Callable[[MailStep], object]:
        def answered(step: MailStep) -> object:
            match step:
                case Restore():
                    return {OUTBOX_KEY: outbox.encode(kept)}
                case TopicIds():
                    return {topics.MAIL: topic_id}
                case Beginning():
                    return 0
            return None

        return answered

    turns = _turns()
    scripted.run(turns.take_over(), answer(Outbox(5), "a" * 32))
    _, steps = scripted.run(turns.turn([HEAD]), _answers())
    kept = _kept(steps[1])
    assert kept == Outbox(8, (), "a" * 32)
    assert scripted.run(_turns().take_over(), answer(kept, "a" * 32))[0] == 8
    with pytest.raises(AnotherTopicError, match=r"metering.mail has the id b{32}, .* had the id a{32}"):
        scripted.run(_turns().take_over(), answer(kept, "b" * 32))
    # Where it was not known which topic was read, a setting that is still there reads nothing again.
    assert scripted.run(_turns().take_over({topics.MAIL: "a" * 32}), answer(Outbox(5), "a" * 32))[0] == 5
    accepting = _turns().take_over({topics.MAIL: "b" * 32})
    offset, steps = scripted.run(accepting, answer(kept, "b" * 32))
    # Kept at once: where no mail comes, the next owner would stop again.
    assert (offset, _kept(steps[4])) == (0, Outbox(0, (), "b" * 32))


def test_a_mail_of_a_newer_release_stays_in_the_topic() -> None:
    newer = Record(topics.MAIL, offset=7, value=b'{"format":3}')
    steps: list[MailStep] = []

    def answer(step: MailStep) -> object:
        steps.append(step)
        return NOW_MS if isinstance(step, Now) else None

    turns = _turns()
    with pytest.raises(NewerFormatError, match="a newer release"):
        scripted.run(turns.turn([newer]), answer)
    assert scripted.names(steps) == ["Now"]
    assert turns.outbox == Outbox()
