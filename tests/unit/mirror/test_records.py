"""What names offsets of the first cluster names those of the second once it is copied; everything else stays as it is."""

from __future__ import annotations

import pytest

from pipeline import topics
from pipeline.accounts import verdicts
from pipeline.mail import outbox
from pipeline.mail.outbox import Outbox, again
from pipeline.mail.protocol import OUTBOX_KEY
from pipeline.mirror.offsets import OffsetMap, Run
from pipeline.mirror.records import (
    AHEAD,
    HELD,
    LEVEL,
    NAMED,
    NOT_COPIED,
    STATES,
    Translation,
    read_up_to,
    translated,
)
from pipeline.posting import set_aside
from pipeline.posting.protocol import OWN_TOPICS
from pipeline.posting.redriving import start_key
from pipeline.posting.state import (
    COPY_KEY,
    META_KEY,
    Meta,
    PartitionState,
    StateError,
    encode_meta,
    read_meta,
)
from pipeline.steps import TopicPlace
from pipeline.webhook import waiting
from pipeline.webhook.waiting import WebhookProgress
from tests.support.mails import MAIL
from tests.support.webhooks import MESSAGE

REQUESTS, BILLING = TopicPlace(topics.REQUESTS, 1), TopicPlace(topics.BILLING, 1)
STATE, LETTERS = TopicPlace(topics.STATE, 1), TopicPlace(topics.DEAD_LETTERS, 1)
HOOKS = TopicPlace(topics.WEBHOOKS_STATE, 1)
OUTBOX, MAILS = TopicPlace(topics.MAIL_STATE, 1), TopicPlace(topics.MAIL, 1)
NEW_IDS = {name: f"new-{name}" for name in NAMED}


def _translation() -> Translation:
    """Requests 100 to 109 are at 0 to 9, and 111 to 120 at 11 to 20; letters 5 and 6 are at 3 and 4; mails 8 to 9 at 2 to 3."""
    return Translation(
        NEW_IDS,
        {
            REQUESTS: OffsetMap([Run(100, 0, 10), Run(111, 11, 10)]),
            LETTERS: OffsetMap([Run(5, 3, 2)]),
            MAILS: OffsetMap([Run(8, 2, 2)]),
            TopicPlace(topics.WEBHOOKS, 1): OffsetMap([Run(8, 2, 2)]),
        },
    )


def test_every_topic_is_copied_in_one_way_or_is_not() -> None:
    assert sorted((*STATES, *HELD, *AHEAD, *LEVEL, *NOT_COPIED)) == sorted(t.name for t in topics.TOPICS)


def test_a_partition_reads_on_where_it_would_have_on_the_first_cluster() -> None:
    meta = Meta(4, position=77, posted_ms=5, offsets={topics.REQUESTS: 110, topics.BILLING: 9}, swept_day=3)
    meta.topic_ids = {topics.REQUESTS: "old"}
    copied = translated(STATE, META_KEY, encode_meta(meta), _translation())
    assert copied is not None
    assert copied[1] is not None
    found = read_meta(copied[1])
    assert found.offsets == {topics.REQUESTS: 11, topics.BILLING: 0}
    assert found.topic_ids == {name: f"new-{name}" for name in OWN_TOPICS}
    assert (found.position, found.posted_ms, found.swept_day, found.partitions) == (77, 5, 3, 4)


def test_a_record_that_was_set_aside_stays_so() -> None:
    key = set_aside.key_of(topics.REQUESTS, 112)
    assert translated(STATE, key, b"why", _translation()) == (set_aside.key_of(topics.REQUESTS, 12), b"why")


def test_a_mark_of_a_record_that_is_not_there_is_not_copied() -> None:
    """Offset 110 is what a transaction left."""
    assert translated(STATE, set_aside.key_of(topics.REQUESTS, 110), b"why", _translation()) is None


def test_a_letter_that_was_redriven_stays_so() -> None:
    place = TopicPlace(topics.REDRIVE_STATE, 0)
    assert translated(place, b"1-6", b"1", _translation()) == (b"1-4", b"1")
    assert translated(place, b"1-7", b"1", _translation()) is None


def test_letters_are_read_on_from_where_they_were() -> None:
    place = TopicPlace(topics.REDRIVE_STATE, 0)
    assert translated(place, start_key(1, 6), b"2", _translation()) == (start_key(1, 4), b"2")
    assert translated(place, start_key(1, 6), None, _translation()) == (start_key(1, 4), None)


def test_mails_that_were_sent_are_not_sent_again_and_waiting_ones_wait() -> None:
    waiting = (again(MAIL, 1, 1, 2, 3),)
    copied = translated(OUTBOX, OUTBOX_KEY, outbox.encode(Outbox(9, waiting, "old")), _translation())
    assert copied is not None
    assert copied[1] is not None
    assert outbox.decode(copied[1]) == Outbox(3, waiting, f"new-{topics.MAIL}")


def test_webhooks_that_were_taken_are_not_sent_again_and_waiting_ones_wait() -> None:
    progress = waiting.encode_progress(WebhookProgress(9, "old"))
    copied = translated(HOOKS, waiting.PROGRESS_KEY, progress, _translation())
    assert copied is not None
    assert copied[1] is not None
    assert waiting.decode_progress(copied[1]) == WebhookProgress(3, f"new-{topics.WEBHOOKS}")
    assert read_up_to(topics.WEBHOOKS_STATE, waiting.PROGRESS_KEY, progress) == {topics.WEBHOOKS: 9}
    kept = waiting.kept(waiting.again(MESSAGE, 1, 2, 3, 4))
    assert translated(HOOKS, kept.key, kept.value, _translation()) == (kept.key, kept.value)


@pytest.mark.parametrize("place", [STATE, OUTBOX, HOOKS, TopicPlace(topics.REDRIVE_STATE, 0)])
def test_what_means_nothing_is_not_copied(place: TopicPlace) -> None:
    assert translated(place, topics.OWNER_KEY, None, _translation()) is None


def test_how_far_verdicts_count_is_left_to_the_next_owner() -> None:
    place = TopicPlace(topics.VERDICTS, 1)
    assert translated(place, verdicts.PROGRESS_KEY, b"{}", _translation()) is None
    assert translated(place, b"org_1", b"{}", _translation()) == (b"org_1", b"{}")


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        (REQUESTS, b"org_1", b"{}"),
        (REQUESTS, None, None),
        (TopicPlace(topics.JOURNAL, 1), None, b"block"),
        (STATE, b"borg_1", b"\x81"),
        (STATE, b"borg_1", None),
    ],
)
def test_everything_else_is_copied_as_it_is(
    place: TopicPlace, key: bytes | None, value: bytes | None
) -> None:
    assert translated(place, key, value, _translation()) == (key, value)


def test_no_worker_takes_over_what_is_still_being_copied() -> None:
    with pytest.raises(StateError, match="metering mirror --promote"):
        PartitionState.restored(0, 4, {COPY_KEY: b"kafka-1:9092"})


def test_what_was_read_is_known_by_the_state_and_the_outbox() -> None:
    meta = encode_meta(Meta(4, offsets={topics.REQUESTS: 110}))
    assert read_up_to(topics.STATE, META_KEY, meta) == {topics.REQUESTS: 110}
    assert read_up_to(topics.MAIL_STATE, OUTBOX_KEY, outbox.encode(Outbox(9))) == {topics.MAIL: 9}
    assert read_up_to(topics.STATE, b"borg_1", b"m") == read_up_to(topics.REQUESTS, META_KEY, meta) == {}
