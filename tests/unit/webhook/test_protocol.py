"""The webhooks' protocol: each message is taken at least once or tried for a day, whatever ends the process and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import topics
from pipeline.accounts.notices import WebhookMessage, encode_webhook
from pipeline.formats import NewerFormatError
from pipeline.steps import (
    AnotherTopicError,
    Beginning,
    Commit,
    Fence,
    Idle,
    LastHeaders,
    Now,
    Restore,
    Taken,
    TopicIds,
)
from pipeline.webhook import waiting
from pipeline.webhook.protocol import (
    TOGETHER,
    Attempted,
    Finished,
    Send,
    TriedAgain,
    WebhookFate,
    WebhookStep,
    WebhookTurns,
)
from pipeline.webhook.waiting import AGE_MAX_MS, WAITING_MAX, WebhookProgress
from tests.support import scripted
from tests.support.builders import EXAMPLES, Record
from tests.support.webhooks import MESSAGE

NOW_MS = 5_000


def _message(name: str) -> WebhookMessage:
    return msgspec.structs.replace(MESSAGE, id=name)


def _record(offset: int, name: str = "", at_ms: int = NOW_MS) -> Record:
    value = encode_webhook(_message(name or f"m{offset}"))
    return Record(topics.WEBHOOKS, offset=offset, timestamp=at_ms, value=value)


def _turns() -> WebhookTurns:
    return WebhookTurns("metering", 2, first_retry_ms=100)


def _answers(attempted: Attempted = Attempted.TAKEN, now_ms: int = NOW_MS) -> Callable[[WebhookStep], object]:
    def answer(step: WebhookStep) -> object:
        if isinstance(step, Send):
            return [(attempted, "a word")] * len(step.messages)
        return now_ms if isinstance(step, Now) else None

    return answer


def test_messages_are_done_with_only_after_they_were_taken() -> None:
    turns = _turns()
    idle, steps = scripted.run(turns.turn([_record(7), _record(8)]), _answers())
    assert idle is None
    assert scripted.names(steps) == ["Now", "Send", "Now", "Commit", "Finished", "Finished", "Taken"]
    assert (turns.next_offset, turns.waiting) == (9, 0)
    assert steps[-2:] == [Finished(WebhookFate.SENT, "m8", "a word"), Taken(2)]


def test_what_was_not_taken_waits_and_is_tried_again_when_due() -> None:
    turns = _turns()
    scripted.run(turns.turn([_record(7)]), _answers(Attempted.NOT_TAKEN))
    assert scripted.run(turns.turn([]), _answers())[0] == Idle(NOW_MS + 100)
    _, steps = scripted.run(turns.turn([_record(8)]), _answers(now_ms=NOW_MS + 100))
    assert scripted.names(steps) == ["Now", "TriedAgain", "Send", "Now", "Commit", "Finished"]
    assert (turns.next_offset, turns.waiting) == (8, 0)


def test_who_says_that_he_is_gone_is_asked_no_more() -> None:
    turns = _turns()
    _, steps = scripted.run(turns.turn([_record(7)]), _answers(Attempted.GONE))
    assert Finished(WebhookFate.GONE, "m7", "a word") in steps
    assert turns.waiting == 0


def test_what_is_a_day_old_is_not_sent_any_more_and_nonsense_neither() -> None:
    turns = _turns()
    _, steps = scripted.run(turns.turn([_record(7)]), _answers(now_ms=NOW_MS + AGE_MAX_MS))
    assert scripted.names(steps) == ["Now", "Now", "Commit", "Finished", "Taken"]
    assert steps[3] == Finished(WebhookFate.EXPIRED, "m7", "after 0 tries")
    nonsense = Record(topics.WEBHOOKS, offset=8, value=b"{}")
    _, steps = scripted.run(turns.turn([nonsense]), _answers())
    assert scripted.names(steps) == ["Now", "Finished", "Now", "Commit", "Taken"]
    assert turns.next_offset == 9


def test_a_few_are_sent_at_a_time_and_nothing_is_read_while_too_many_wait() -> None:
    turns = _turns()
    records = [_record(n) for n in range(TOGETHER + 3)]
    _, steps = scripted.run(turns.turn(records), _answers(Attempted.NOT_TAKEN))
    assert Taken(TOGETHER) in steps
    turns.waits = {str(n): next(iter(turns.waits.values())) for n in range(WAITING_MAX)}
    assert scripted.run(turns.turn(records), _answers())[0] == Idle(NOW_MS + 100)


def test_a_message_that_only_a_newer_release_can_read_stays_where_it_is() -> None:
    turns = _turns()
    newer = Record(topics.WEBHOOKS, offset=7, value=b'{"format":2}')
    with pytest.raises(NewerFormatError):
        scripted.run(turns.turn([newer]), _answers())
    assert turns.next_offset == 0


def test_another_topic_of_webhooks_stops_it() -> None:
    def answer(step: WebhookStep) -> object:
        match step:
            case Restore():
                return {waiting.PROGRESS_KEY: waiting.encode_progress(WebhookProgress(5, "a" * 32))}
            case TopicIds():
                return {topics.WEBHOOKS: "b" * 32}
            case Beginning():
                return 0
        return None

    with pytest.raises(AnotherTopicError):
        scripted.run(_turns().take_over(), answer)
    accepting = _turns()
    assert scripted.run(accepting.take_over({topics.WEBHOOKS: "b" * 32}), answer)[0] == 0


class _Killed(Exception):
    """The process ended at this step."""


@dataclass
class _World:
    """Kafka, a clock and receivers, from which a process may be torn at any step."""

    rng: Random
    kill_share: float
    topic: list[Record] = field(default_factory=list)
    kept: dict[bytes, bytes] = field(default_factory=dict)
    now_ms: int = NOW_MS
    taken: Counter[str] = field(default_factory=Counter)
    ended: dict[str, WebhookFate] = field(default_factory=dict)
    kills: int = 0
    records: list[Record] = field(default_factory=list)

    def take(self, step: WebhookStep) -> object:
        """Take a step; before it or after it the process may end."""
        self._may_end()
        answer = self._answer(step)
        if not isinstance(step, Finished):
            self._may_end()
        return answer

    def _may_end(self) -> None:
        if self.rng.random() < self.kill_share:
            self.kills += 1
            raise _Killed

    def _answer(self, step: WebhookStep) -> object:  # noqa: C901, PLR0911 - one case a step
        match step:
            case Fence() | LastHeaders() | TriedAgain():
                return None
            case Restore():
                return dict(self.kept)
            case TopicIds():
                return {topics.WEBHOOKS: "a" * 32}
            case Beginning():
                return 0
            case Commit():
                [outputs] = step.outputs.values()
                for output in outputs:
                    assert output.key is not None
                    if output.value is None:
                        self.kept.pop(output.key, None)
                    else:
                        self.kept[output.key] = output.value
                return None
            case Now():
                self.now_ms += 1
                return self.now_ms
            case Taken(count):
                del self.records[:count]
                return None
            case Send(messages):
                return [self._receive(message) for message in messages]
            case Finished():
                self.ended[step.name] = step.fate
                return None

    def _receive(self, message: WebhookMessage) -> tuple[Attempted, str]:
        chance = self.rng.random()
        if message.id.startswith("dead") or chance < 0.3:
            return Attempted.NOT_TAKEN, ""
        self.taken[message.id] += 1
        # Taken, but the answer is lost on the way: it comes again.
        return (Attempted.NOT_TAKEN if chance < 0.4 else Attempted.TAKEN), ""

    def live(self) -> None:
        """Run processes, one after the other as they are killed, until nothing is left to do."""
        while True:
            turns = WebhookTurns("metering", 2, first_retry_ms=1000)
            try:
                at, _ = scripted.run(turns.take_over(), self.take)
                self.records = self.topic[at:]
                while True:
                    idle, _ = scripted.run(turns.turn(self.records), self.take)
                    if idle is not None and idle.until_ms is None:
                        return
                    if idle is not None and idle.until_ms is not None:
                        self.now_ms = max(self.now_ms, idle.until_ms)
            except _Killed:
                continue


@EXAMPLES
@given(st.lists(st.booleans(), max_size=40), st.integers(0, 2**32), st.sampled_from([0.0, 0.02, 0.15]))
def test_each_is_taken_at_least_once_or_tried_for_a_day_whatever_is_killed(
    dead: Sequence[bool], seed: int, kill_share: float
) -> None:
    names = [f"dead{n}" if is_dead else f"m{n}" for n, is_dead in enumerate(dead)]
    world = _World(Random(seed), kill_share, [_record(n, name) for n, name in enumerate(names)])
    world.live()
    for name in names:
        if name.startswith("dead"):
            assert world.taken[name] == 0
        else:
            assert world.taken[name] >= 1
    assert [key for key in world.kept if waiting.is_waiting(key)] == []
    if not kill_share:
        fates = {name: WebhookFate.EXPIRED if name.startswith("dead") else WebhookFate.SENT for name in names}
        assert world.ended == fates
