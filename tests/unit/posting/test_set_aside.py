"""Records that an operator has set aside: dead letters, whatever they hold, and once."""

from __future__ import annotations

from pipeline.accounts.commands import Credit, encode
from pipeline.accounts.promos import PromoTable
from pipeline.events import STAMP_AHEAD_MS
from pipeline.posting.protocol import Decide, WorkerStep, unit_of_work
from pipeline.posting.set_aside import key_of, place_of
from pipeline.posting.state import META_KEY, PartitionState
from pipeline.steps import Now
from pipeline.topics import BILLING, MOVED, REQUESTS
from tests.support import scripted
from tests.support.builders import (
    COMMAND_KEYS,
    COST_NANO,
    NOW_MS,
    Books,
    Record,
    event,
    packed,
    rate_table,
    reasons,
)


def _marked(topic: str, offset: int, partition: int = 0) -> PartitionState:
    """Return the state that a new owner restores where one record is set aside."""
    return PartitionState.restored(partition, 1, {key_of(topic, offset): "it ended \u20b9 workers".encode()})


def test_a_mark_names_its_record() -> None:
    assert place_of(key_of(MOVED, 2**40)) == (MOVED, 2**40)
    assert _marked(REQUESTS, 7).set_aside == {(REQUESTS, 7): "it ended ₹ workers"}


def test_a_record_set_aside_is_a_dead_letter_once_and_its_neighbours_are_charged() -> None:
    books = Books()
    books.state = _marked(REQUESTS, 1)
    books.topic = {key_of(REQUESTS, 1): b"..."}
    values = [packed(event(str(n))) for n in range(3)]
    outcome = books.publish(*values)
    [letter] = outcome.dead_letters
    assert (reasons(outcome), letter.value) == (["quarantined"], values[1])
    assert dict(letter.headers) == {
        "reason": b"quarantined",
        "detail": "it ended ₹ workers".encode(),
        "topic": REQUESTS.encode(),
        "partition": b"0",
        "offset": b"1",
    }
    assert books.balance_nano() == -2 * COST_NANO
    assert (books.state.meta.offsets, books.state.set_aside) == ({REQUESTS: 3}, {})
    assert key_of(REQUESTS, 1) not in books.topic
    # What the gateway sends again is charged: nothing of the record was.
    assert reasons(books.publish(values[1])) == []
    assert books.balance_nano() == -3 * COST_NANO


def test_nobody_looks_into_it_whatever_it_would_do() -> None:
    """Its time stamp would end the worker, and move the time of posting on."""
    state = _marked(REQUESTS, 0)
    records = [
        Record(offset=0, timestamp=NOW_MS + STAMP_AHEAD_MS + 1, value=None),
        Record(offset=1, value=packed(event())),
    ]

    def answer(step: WorkerStep) -> object:
        if isinstance(step, Decide):
            list(step.decision)
        return NOW_MS if isinstance(step, Now) else None

    unit = unit_of_work(state, rate_table(), PromoTable(), COMMAND_KEYS, REQUESTS, records)
    posted, _ = scripted.run(unit, answer)
    assert posted is not None
    assert reasons(posted.output) == ["quarantined"]
    assert (state.meta.posted_ms, posted.unit.charged) == (NOW_MS, 1)


def test_a_command_set_aside_is_not_carried_out() -> None:
    books = Books()
    books.state = _marked(BILLING, 0)
    commands = [encode(Credit(id=str(n), org="org_1", amount_nano=5, reason="r")) for n in range(2)]
    outcome = books.send(*commands)
    assert reasons(outcome) == ["quarantined"]
    assert (books.balance_nano(), len(outcome.replies)) == (5, 1)


def test_the_mark_of_another_topic_is_none_of_this_one() -> None:
    books = Books()
    books.state = _marked(BILLING, 0)
    assert reasons(books.publish(packed(event()))) == []
    assert books.state.set_aside and META_KEY in books.topic
