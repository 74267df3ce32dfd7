"""Dead letters that can be charged now, and that each is charged once whichever way it comes."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from pipeline import ist
from pipeline.catalog.rates import RateTable
from pipeline.events import AHEAD_MS, LATE_MS
from pipeline.formats import NewerFormatError
from pipeline.posting import duplicates
from pipeline.posting.redriving import (
    STATE_PLACE,
    Letter,
    NextLetters,
    RedriveStep,
    chargeable,
    redrive,
    start_key,
    starts_of,
)
from pipeline.steps import Commit, Now, Restore, TopicPlace
from pipeline.topics import MOVED, REQUESTS
from tests.support import scripted
from tests.support.builders import (
    COST_NANO,
    NOW_MS,
    Books,
    Record,
    event,
    packed,
    rate,
    rate_table,
    reasons,
    time_text,
)

LETTER = packed(event())


@pytest.mark.parametrize(
    ("reason", "rates", "too_late", "expected"),
    [
        ("unpriced", [], False, False),
        ("unpriced", [rate()], False, True),
        ("unpriced", [rate(from_ms=NOW_MS)], False, False),
        ("too_late", [rate()], False, False),
        ("too_late", [rate()], True, True),
        ("leap", [rate()], True, False),
        ("from_the_future", [rate()], False, True),
        ("invalid", [rate()], True, False),
        ("malformed", [rate()], True, False),
    ],
)
def test_what_can_be_charged_now(reason: str, rates: list[object], too_late: bool, expected: bool) -> None:
    table = RateTable()
    for each in rates:
        table.add(each)  # type: ignore[arg-type]  # the cases above are rates
    assert (chargeable(LETTER, reason, table, NOW_MS, too_late=too_late) is not None) is expected


def test_an_event_from_the_future_waits_for_its_time() -> None:
    table = RateTable()
    table.add(rate())
    ahead = packed(event(time=time_text(NOW_MS + ist.DAY_MS)))
    assert chargeable(ahead, "from_the_future", table, NOW_MS, too_late=False) is None
    assert chargeable(ahead, "from_the_future", table, NOW_MS + ist.DAY_MS, too_late=False) is not None


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("ways", list(itertools.permutations(["resent", "redriven", "redriven again"])))
def test_an_unpriced_event_is_charged_once_whichever_way_it_comes(numbered: bool, ways: list[str]) -> None:
    """Resent by its gateway and redriven by the operator, in any order, through a restart."""
    books = Books(rates=RateTable())
    letter = packed(event(sequence="07") if numbered else event())
    assert reasons(books.publish(letter)) == ["unpriced"]
    books.rates.add(rate())
    books.state = books.restore()
    for way in ways:
        books.publish(letter, topic=REQUESTS if way == "resent" else MOVED)
        books.state = books.restore()
    assert books.balance_nano() == -COST_NANO


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("ways", list(itertools.permutations(["resent", "redriven", "redriven again"])))
def test_an_event_from_the_future_is_charged_once_when_its_time_has_come(
    numbered: bool, ways: list[str]
) -> None:
    books = Books()
    at_ms = NOW_MS + 2 * AHEAD_MS
    ahead = event(time=time_text(at_ms), **({"sequence": "07"} if numbered else {}))
    assert reasons(books.publish(packed(ahead))) == ["from_the_future"]
    books.state = books.restore()
    for way in ways:
        books.publish(packed(ahead), topic=REQUESTS if way == "resent" else MOVED, at_ms=at_ms)
        books.state = books.restore()
    assert books.balance_nano() == -COST_NANO


def _redriven(books: Books, value: bytes, reason: str = "unpriced", partition: int = 0) -> Record:
    """Return the record by which a letter that was published to a partition comes again."""
    headers = [("reason", reason), ("topic", REQUESTS), ("partition", str(partition)), ("redriven", "0-0")]
    return dataclasses.replace(
        books.record(MOVED, value), headers=[(name, text.encode()) for name, text in headers]
    )


@pytest.mark.parametrize("ways", list(itertools.permutations(["resent", "redriven", "redriven again"])))
@pytest.mark.parametrize("reason", ["unpriced", "from_the_future"])
def test_a_numbered_letter_is_charged_once_however_many_others_are_between(
    reason: str, ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator may redrive weeks after a gateway sent its spool again, and a spool be sent again weeks after."""
    monkeypatch.setattr(duplicates, "CHUNK_MARKS", 1)
    monkeypatch.setattr(duplicates, "SLOTS", 8)
    monkeypatch.setattr(duplicates, "CHUNK_NUMBERS", 1)
    monkeypatch.setattr(duplicates, "NUMBER_SLOTS", 1)
    books = Books(rates=rate_table(rate(model="other")))
    at_ms = NOW_MS if reason == "unpriced" else NOW_MS + 2 * AHEAD_MS
    letter = packed(event("e7", sequence="07", time=time_text(at_ms - 1)))
    assert reasons(books.publish(letter)) == [reason]
    books.rates.add(rate())
    for n, way in enumerate(ways):
        if way == "resent":
            books.publish(letter, at_ms=at_ms)
        else:
            books.post([_redriven(books, letter, reason)])
        books.state = books.restore()
        books.publish(*(packed(event(f"other {n} {m}", source="other")) for m in range(20)), at_ms=at_ms)
    assert books.balance_nano() == -(1 + 3 * 20) * COST_NANO


@pytest.mark.parametrize(("reason", "partition"), [("leap", 0), ("unpriced", 1)])
def test_a_redriven_number_that_tells_nothing_of_others_hides_none(reason: str, partition: int) -> None:
    """It may be another sender's, or have come by way of a partition where others of its source are behind."""
    books = Books()
    books.publish(packed(event("e1", sequence="1")))
    books.post([_redriven(books, packed(event("e9", sequence="9")), reason, partition)])
    books.publish(packed(event("e2", sequence="2")))
    assert books.balance_nano() == -3 * COST_NANO
    books.post([_redriven(books, packed(event("e5", sequence="5")))])
    books.publish(packed(event("e4", sequence="4")), packed(event("e6", sequence="6")))
    assert books.balance_nano() == -5 * COST_NANO, "what came before the letter was read before it"


def test_a_numbered_event_after_a_dead_letter_does_not_hide_it() -> None:
    """Number 8 is charged while 7 is a dead letter; redriving 7 charges it."""
    books = Books(rates=RateTable())
    books.publish(packed(event("e7", sequence="07")))
    books.rates.add(rate())
    books.publish(packed(event("e8", sequence="08")))
    books.publish(packed(event("e7", sequence="07")), topic=MOVED)
    assert books.balance_nano() == -2 * COST_NANO


def test_letters_are_marked_and_published_in_the_same_transactions_some_at_a_time() -> None:
    table = RateTable()
    table.add(rate())
    headers = [("reason", b"unpriced")]
    letters = [Letter(0, offset, packed(event(str(offset))), headers) for offset in range(4)]
    letters.append(Letter(0, 9, b"nonsense", [("reason", b"malformed")]))
    unread = iter([letters[:2], letters[2:], None])

    def answer(step: RedriveStep) -> object:
        match step:
            case Restore():
                return {letters[1].mark: b"1"}
            case NextLetters():
                return next(unread)
            case Now():
                return NOW_MS
        return None

    report, steps = scripted.run(redrive(table, 1, too_late=False, letters_max=2), answer)
    assert scripted.names(steps[:2]) == ["Fence", "Restore"]
    assert (report.redriven, report.earlier, report.left) == (3, 1, {"malformed": 1})
    commits = [step for step in steps if isinstance(step, Commit)]
    marks = [[output.key for output in commit.outputs[STATE_PLACE]] for commit in commits]
    assert marks == [[b"0-0", b"0-2"], [b"0-3"], [start_key(0, 10)]]
    copies = [[output.value for output in commit.outputs[TopicPlace(MOVED, 0)]] for commit in commits[:2]]
    assert copies == [[letters[0].value, letters[2].value], [letters[3].value]]
    assert commits[0].outputs[TopicPlace(MOVED, 0)][0].headers == [*headers, ("redriven", b"0-0")]


def test_marks_of_a_newer_release_stop_it_before_anything_is_redriven() -> None:
    def answer(step: RedriveStep) -> object:
        assert not isinstance(step, NextLetters | Commit)
        return {b"0-1": b"3"} if isinstance(step, Restore) else None

    with pytest.raises(NewerFormatError, match="a newer release"):
        scripted.run(redrive(RateTable(), 1, too_late=False), answer)


@pytest.mark.parametrize("leaps", [True, False])
def test_a_number_that_leapt_is_redriven_only_where_the_operator_says_so(leaps: bool) -> None:
    assert (chargeable(LETTER, "leap", rate_table(), NOW_MS, too_late=True, leaps=leaps) is not None) is leaps


@pytest.mark.parametrize(
    ("late_ms", "unsigned", "too_late", "expected"),
    [
        (0, False, True, False),
        (0, True, False, True),
        (LATE_MS, True, False, False),
        (LATE_MS, True, True, True),
    ],
)
def test_what_its_gateway_did_not_sign_is_redriven_by_an_operators_word_and_an_old_one_by_two(
    late_ms: int, unsigned: bool, too_late: bool, expected: bool
) -> None:
    """Of an old one nobody knows whether it was charged."""
    now_ms = NOW_MS + late_ms
    found = chargeable(LETTER, "unsigned", rate_table(), now_ms, too_late=too_late, unsigned=unsigned)
    assert (found is not None) is expected


class _Letters:
    """The dead letters of a few partitions and what redrivers have kept, run by run."""

    def __init__(self, *letters: Letter) -> None:
        self.letters = list(letters)
        self.kept: dict[bytes, bytes] = {}
        self.read: list[tuple[int, int]] = []

    def run(self, rates: RateTable, **words: bool) -> tuple[int, dict[str, int]]:
        """Redrive; return how many were, and what is left of those that were read."""
        self.read.clear()
        unread: list[list[Letter]] | None = None

        def answer(step: RedriveStep) -> object:
            nonlocal unread
            match step:
                case Restore():
                    return dict(self.kept)
                case NextLetters(starts):
                    if unread is None:
                        unread = [
                            [each for each in self.letters if each.offset >= starts.get(each.partition, 0)]
                        ]
                        self.read = [(letter.partition, letter.offset) for letter in unread[0]]
                    return unread.pop() if unread else None
                case Now():
                    return NOW_MS
                case Commit(outputs):
                    for output in outputs.get(STATE_PLACE, ()):
                        assert output.key is not None
                        if output.value is None:
                            del self.kept[output.key]
                        else:
                            self.kept[output.key] = output.value
            return None

        report, _ = scripted.run(redrive(rates, 2, **{"too_late": False, **words}), answer)
        return report.redriven, dict(report.left)


def _letter(partition: int, offset: int, reason: str) -> Letter:
    value = packed(event(f"{partition}-{offset}"))
    return Letter(partition, offset, value, [("reason", reason.encode())])


def test_the_next_run_reads_from_the_first_letter_that_waits() -> None:
    kept = _Letters(
        _letter(0, 0, "malformed"),
        _letter(0, 4, "unpriced"),
        _letter(0, 5, "invalid"),
        _letter(1, 7, "too_late"),
    )
    nothing = RateTable()
    assert kept.run(nothing) == (0, {"malformed": 1, "unpriced": 1, "invalid": 1, "too_late": 1})
    assert kept.run(nothing) == (0, {"unpriced": 1, "invalid": 1})
    assert kept.read == [(0, 4), (0, 5)]
    kept.letters.append(_letter(1, 9, "unpriced"))
    assert kept.run(rate_table()) == (2, {"invalid": 1})
    assert kept.run(rate_table()) == (0, {})
    assert kept.read == []
    assert starts_of(kept.kept) == {0: 6, 1: 10}
    assert len([key for key in kept.kept if key.startswith(b"from")]) == 2


def test_with_an_operators_word_all_letters_are_read_and_none_is_redriven_twice() -> None:
    kept = _Letters(_letter(0, 0, "too_late"), _letter(0, 1, "unpriced"), _letter(0, 2, "leap"))
    assert kept.run(rate_table()) == (1, {"too_late": 1, "leap": 1})
    assert kept.run(rate_table(), too_late=True) == (1, {"leap": 1})
    assert kept.read == [(0, 0), (0, 1), (0, 2)]
    assert kept.run(rate_table(), leaps=True) == (1, {})
    assert kept.run(rate_table(), leaps=True, too_late=True) == (0, {})


def test_a_letter_whose_reason_only_a_newer_worker_knows_is_not_passed_over() -> None:
    kept = _Letters(_letter(0, 0, "of_tomorrow"), _letter(0, 1, "unpriced"))
    assert kept.run(rate_table()) == (1, {"of_tomorrow": 1})
    kept.run(rate_table())
    assert kept.read == [(0, 0), (0, 1)]
    assert starts_of(kept.kept) == {}


def test_of_several_places_to_begin_the_newest_counts() -> None:
    """A copied cluster may have kept an older one, as its deletion was translated to another offset."""
    assert starts_of([b"0-3", start_key(0, 9), start_key(0, 4), start_key(1, 2)]) == {0: 9, 1: 2}
