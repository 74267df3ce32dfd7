"""The sink's protocol: recorded before it is sent, sent again as it was, counted when old, put back when lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import chain, repeat

import pytest
from msgspec import structs

from pipeline import topics
from pipeline.clickhouse.pool import WRITE_SECONDS
from pipeline.identity import DeploymentIdentity, MixedHistoriesError
from pipeline.inserts import DatabasePlace
from pipeline.journal import JSON_ARRAYS, LEDGER, NATIVE, REQUESTS, JournalRecord
from pipeline.sink import ranges
from pipeline.sink.protocol import INTENT_KEY, RETRY_S, SETTLE_S, IntentError, RangeWriter
from pipeline.sink.steps import (
    CompleteRollUps,
    CountRows,
    FillRollUps,
    Insert,
    LookAtDatabase,
    MayHaveLost,
    NotConfirmedError,
    NothingIsUnderWay,
    Pause,
    PrepareStaging,
    PutBack,
    ReadJournal,
    RollUpsLack,
    SinkStep,
)
from pipeline.steps import (
    AnotherTopicError,
    Commit,
    ConfirmOwner,
    Now,
    Reached,
    Restore,
    TopicIds,
    TopicPlace,
)
from tests.support import scripted

SAFE_MS = 10_000
RECORDS = [(10, JournalRecord(REQUESTS, 1, 3, b"a\nb\nc\n")), (12, JournalRecord(LEDGER, 4, 4, b"d\n"))]
INTENT = ranges.cut(RECORDS, at_ms=1_000)
OURS = DatabasePlace(((DeploymentIdentity("metering"), ranges.FIRST_EPOCH),))
REFUSED = NotConfirmedError("away")


def _writer() -> RangeWriter:
    return RangeWriter("metering", 2, SAFE_MS)


def _answers(  # noqa: C901 - one case a step
    now_ms: int = 1_000,
    inserts: Sequence[object] = (),
    counted: Callable[[str], int] = lambda _: 0,
    *,
    lost: bool = False,
    recorded: bytes = ranges.encode(INTENT),
    journal_id: str = "",
    lack: bool = False,
    settled: bool = False,
) -> Callable[[SinkStep], object]:
    answered = chain(inserts, repeat(None))

    def answer(step: SinkStep) -> object:  # noqa: C901 - one case a step
        told: object = None
        match step:
            case Now():
                told = now_ms
            case Restore():
                told = {INTENT_KEY: recorded}
            case TopicIds():
                told = {topics.JOURNAL: journal_id} if journal_id else {}
            case LookAtDatabase():
                told = OURS
            case ReadJournal():
                told = RECORDS
            case Insert():
                told = next(answered)
            case CountRows(rows):
                told = counted(rows.kind)
            case MayHaveLost() | RollUpsLack():
                told = lost if isinstance(step, MayHaveLost) else lack
            case NothingIsUnderWay():
                told = settled
            case PrepareStaging():
                told = "staging"
        if isinstance(told, Exception):
            raise told
        return told

    return answer


def _inserted(steps: list[SinkStep]) -> list[tuple[str, str]]:
    return [(step.rows.kind, step.rows.token) for step in steps if isinstance(step, Insert)]


def test_a_range_is_recorded_before_it_is_sent() -> None:
    _, steps = scripted.run(_writer().write(RECORDS), _answers())
    assert scripted.names(steps) == ["Now", "Commit", "Reached", "Now", "Insert", "Now", "Insert", "Reached"]
    commit = steps[1]
    assert isinstance(commit, Commit)
    [recorded] = commit.outputs[TopicPlace(topics.SINK_STATE, 2)]
    assert ranges.decode(recorded.value or b"") == structs.replace(INTENT, deployment="metering/")
    assert (steps[2], steps[-1]) == (Reached("sink.recorded"), Reached("sink.inserted"))
    assert [kind for kind, _ in _inserted(steps)] == [REQUESTS, LEDGER]


def test_records_of_two_formats_are_two_ranges_one_after_the_other() -> None:
    old = structs.replace(RECORDS[0][1], format=JSON_ARRAYS)
    _, steps = scripted.run(_writer().write([(10, old), RECORDS[1]]), _answers())
    assert [step.rows.format for step in steps if isinstance(step, Insert)] == [JSON_ARRAYS, NATIVE]
    recorded = [
        ranges.decode(commit.outputs[TopicPlace(topics.SINK_STATE, 2)][0].value or b"")
        for commit in steps
        if isinstance(commit, Commit)
    ]
    assert [(intent.first_offset, intent.next_offset) for intent in recorded] == [(10, 11), (12, 13)]
    names = scripted.names(steps)
    assert names.index("Reached", names.index("Insert")) < len(names) - 1 - names[::-1].index("Commit")


def test_nothing_is_sent_that_could_not_be_recorded() -> None:
    def fenced(step: SinkStep) -> object:
        assert not isinstance(step, Insert)
        if isinstance(step, Commit):
            raise PermissionError
        return _answers()(step)

    with pytest.raises(PermissionError):
        scripted.run(_writer().write(RECORDS), fenced)


def test_an_unclear_insert_is_sent_again_with_its_token_then_looked_for() -> None:
    _, steps = scripted.run(_writer().insert(INTENT, RECORDS), _answers(inserts=[REFUSED] * 6))
    sent = _inserted(steps)
    assert len(sent) == 8
    assert len(set(sent)) == 2
    waited = [step.seconds for step in steps if isinstance(step, Pause)]
    assert waited == [*RETRY_S, RETRY_S[-1]]
    assert steps[-1] == MayHaveLost(0.0)


def test_whoever_takes_over_finishes_the_recorded_range_and_goes_on_after_it() -> None:
    offset, steps = scripted.run(_writer().take_over(), _answers())
    assert offset == 13
    assert scripted.names(steps[:7]) == [
        *("Restore", "Fence", "Restore", "TopicIds", "LastHeaders", "ReadJournal", "LookAtDatabase")
    ]
    assert steps[5:7] == [ReadJournal(10, 13, 4), LookAtDatabase(1, 4)]
    assert _inserted(steps) == _inserted(scripted.run(_writer().write(RECORDS), _answers())[1])
    # Only then is it known what a roll-up lacks that an upgrade has made.
    assert scripted.names(steps[-2:]) == ["MayHaveLost", "FillRollUps"]

    def nothing(step: SinkStep) -> object:
        return {} if isinstance(step, Restore) else _answers()(step)

    offset, steps = scripted.run(_writer().take_over(), nothing)
    assert offset == 0
    assert scripted.names(steps) == [
        "Restore",
        "Fence",
        "Restore",
        "TopicIds",
        "LastHeaders",
        "LookAtDatabase",
        "FillRollUps",
    ]


def test_a_roll_up_that_could_not_be_filled_is_filled_later_and_by_its_owner_alone() -> None:
    failures = [REFUSED, REFUSED]

    def refusing(step: SinkStep) -> object:
        if isinstance(step, FillRollUps) and failures:
            raise failures.pop()
        return _answers()(step)

    _, steps = scripted.run(_writer().take_over(), refusing)
    retried = ["FillRollUps", "Pause", "ConfirmOwner"]
    assert scripted.names(steps[-7:]) == [*retried, *retried, "FillRollUps"]


def test_a_journal_that_is_another_topic_stops_it_before_anything_is_read_or_sent() -> None:
    writer = _writer()
    _, steps = scripted.run(writer.take_over(), _answers(journal_id="a" * 32))
    _, steps = scripted.run(writer.write(RECORDS), _answers())
    [recorded] = next(step for step in steps if isinstance(step, Commit)).outputs.values()
    kept = recorded[0].value or b""
    assert ranges.decode(kept).topic_id == "a" * 32
    assert scripted.run(_writer().take_over(), _answers(recorded=kept, journal_id="a" * 32))[0] == 13
    taken: list[SinkStep] = []

    def another(step: SinkStep) -> object:
        taken.append(step)
        return _answers(recorded=kept, journal_id="b" * 32)(step)

    with pytest.raises(AnotherTopicError, match=r"metering.journal has the id b{32}, .* had the id a{32}"):
        scripted.run(_writer().take_over(), another)
    assert scripted.names(taken) == ["Restore", "Fence", "Restore", "TopicIds"]


def test_rows_that_a_later_owner_has_written_meanwhile_are_no_mixed_history() -> None:
    """Whether there is a later owner is asked before anybody is told of two histories."""

    def beyond(step: SinkStep) -> object:
        if isinstance(step, LookAtDatabase):
            return dataclasses.replace(OURS, highest=9)
        return _answers()(step)

    def fenced(step: SinkStep) -> object:
        if isinstance(step, ConfirmOwner):
            raise PermissionError
        return beyond(step)

    with pytest.raises(MixedHistoriesError, match="up to position 9"):
        scripted.run(_writer().take_over(), beyond)
    with pytest.raises(PermissionError):
        scripted.run(_writer().take_over(), fenced)


@pytest.mark.parametrize(("found", "lack"), [(3, False), (3, True), (2, False), (0, False)])
def test_a_recorded_range_is_looked_for_first_in_an_engine_to_which_nothing_is_under_way(
    found: int, lack: bool
) -> None:
    """A power cut takes tokens, which are not synced, and leaves rows: by its token the range would be there twice.

    A process that is killed may leave a token without its rows: by it the range would not be there at all.
    """
    there = {REQUESTS: found, LEDGER: 0}
    answers = _answers(counted=there.__getitem__, lack=lack, settled=True)
    offset, steps = scripted.run(_writer().take_over(), answers)
    assert offset == 13
    assert any(isinstance(step, CompleteRollUps) for step in steps) is (lack or found < 3)
    assert _put_back(steps) == [*([REQUESTS] if found < 3 else []), LEDGER]
    assert not any(isinstance(step, Pause) for step in steps), "there is nothing to wait for"
    assert not any(isinstance(step, Insert | Commit) for step in steps), "nothing goes by its token"


def _put_back(steps: Sequence[SinkStep]) -> list[str]:
    return [step.rows.kind for step in steps if isinstance(step, PutBack)]


def test_it_is_looked_for_until_there_is_an_answer() -> None:
    counts = iter([REFUSED, 0, 0, 0, 0])

    def answer(step: SinkStep) -> object:
        if isinstance(step, CountRows):
            count = next(counts)
            if isinstance(count, Exception):
                raise count
            return count
        return answers(step)

    answers = _answers(settled=True)
    _, steps = scripted.run(_writer().take_over(), answer)
    assert _put_back(steps) == [REQUESTS, LEDGER] and not _inserted(steps)
    assert list(counts) == []


OLD_MS = 1_000 + SAFE_MS


def test_of_an_old_range_what_is_there_is_not_sent_again() -> None:
    there = {REQUESTS: 3, LEDGER: 1}
    _, steps = scripted.run(
        _writer().insert(INTENT, RECORDS, sent_before=True), _answers(OLD_MS, counted=there.__getitem__)
    )
    assert _inserted(steps) == []
    assert not any(isinstance(step, Commit) for step in steps)


def test_of_an_old_range_what_is_absent_is_recorded_anew_and_sent() -> None:
    there = {REQUESTS: 3, LEDGER: 0}
    _, steps = scripted.run(
        _writer().insert(INTENT, RECORDS, sent_before=True), _answers(OLD_MS, counted=there.__getitem__)
    )
    assert [kind for kind, _ in _inserted(steps)] == [LEDGER]
    [commit] = [step for step in steps if isinstance(step, Commit)]
    [recorded] = commit.outputs[TopicPlace(topics.SINK_STATE, 2)]
    left = ranges.decode(recorded.value or b"")
    assert ([part.kind for part in left.parts], left.at_ms) == ([LEDGER], OLD_MS)


@pytest.mark.parametrize(("found", "lack"), [(2, False), (3, True)])
def test_an_old_range_that_is_half_there_is_completed_once_nothing_is_under_way(
    found: int, lack: bool
) -> None:
    there = {REQUESTS: found, LEDGER: 0}
    answers = _answers(OLD_MS, counted=there.__getitem__, lack=lack)
    _, steps = scripted.run(_writer().insert(INTENT, RECORDS), answers)
    judged = ["Now", "CountRows", *(["RollUpsLack"] if lack else []), "CountRows", "MayHaveLost"]
    rows = [] if lack else ["PrepareStaging", "ConfirmOwner", "PutBack"]
    assert scripted.names(steps) == [
        *("Now", *judged, "Pause", *judged, "ConfirmOwner", "CountRows", *rows, "CompleteRollUps"),
        *("Commit", "Now", "Insert"),
    ]
    assert [kind for kind, _ in _inserted(steps)] == [LEDGER]
    assert next(step for step in steps if isinstance(step, Pause)).seconds == SETTLE_S > WRITE_SECONDS


def test_of_an_old_range_nothing_goes_by_its_token_where_the_engine_was_started_since() -> None:
    """Killed in the middle of an insert, it may know the token of rows that it lost: they are put back without it."""
    _, steps = scripted.run(_writer().insert(INTENT, RECORDS), _answers(OLD_MS, lost=True))
    assert _put_back(steps) == [REQUESTS, LEDGER]
    assert not any(isinstance(step, Insert | Commit) for step in steps)
    assert next(step for step in steps if isinstance(step, Pause)).seconds == SETTLE_S


def test_what_was_under_way_and_has_landed_meanwhile_is_not_added_again() -> None:
    counts = iter([2, 1, 3, 1])
    _, steps = scripted.run(
        _writer().insert(INTENT, RECORDS), _answers(OLD_MS, counted=lambda _: next(counts))
    )
    assert not any(isinstance(step, PutBack | CompleteRollUps | Commit) for step in steps)


def test_an_old_range_of_which_more_is_there_is_left_to_a_person() -> None:
    with pytest.raises(IntentError, match="4 rows of metering:2:requests:1-3 instead of 3"):
        scripted.run(
            _writer().insert(INTENT, RECORDS, sent_before=True), _answers(OLD_MS, counted=lambda _: 4)
        )


def test_a_refusal_for_certain_is_told_as_one_and_tried_again() -> None:
    refused = NotConfirmedError("no grant", is_refusal=True)
    _, steps = scripted.run(_writer().insert(INTENT, RECORDS), _answers(inserts=[refused, REFUSED]))
    assert [step for step in steps if isinstance(step, Pause)] == [
        Pause(RETRY_S[0], "no grant", is_refusal=True),
        Pause(RETRY_S[1], "away"),
    ]
    assert len(_inserted(steps)) == 4


def test_lost_rows_are_put_back_by_who_is_still_the_owner() -> None:
    lacking = {REQUESTS: 2, LEDGER: 1}
    answers = _answers(counted=lacking.__getitem__, lost=True)
    _, steps = scripted.run(_writer().put_back(INTENT, RECORDS), answers)
    assert scripted.names(steps) == [
        *("Now", "MayHaveLost", "CountRows", "PrepareStaging", "ConfirmOwner", "PutBack", "CompleteRollUps"),
        "CountRows",
    ]
    put_back = steps[5]
    assert isinstance(put_back, PutBack)
    assert (put_back.staging, put_back.rows.kind) == ("staging", REQUESTS)
