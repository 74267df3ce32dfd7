"""Progress: told beside every verdict, alone only now and then, and in the end always."""

from __future__ import annotations

from pipeline.accounts import verdicts
from pipeline.accounts.commands import Credit
from pipeline.accounts.verdicts import PROGRESS_KEY, VerdictProgress
from pipeline.money import NANO_PER_RUPEE
from pipeline.posting import progress
from pipeline.posting.progress import ALONE_EVERY_MS
from pipeline.posting.protocol import tell_progress
from pipeline.steps import Commit, TopicPlace
from pipeline.topics import VERDICTS
from tests.support import scripted
from tests.support.builders import NOW_MS, Books, event, packed


def _told(records: list[tuple[bytes, bytes]]) -> list[int]:
    said = [verdicts.decode_record(key, value) for key, value in records if key == PROGRESS_KEY]
    return [each.requests_offset for each in said if isinstance(each, VerdictProgress)]


def _books() -> Books:
    """An org whose balance is so high that a request more is no news."""
    books = Books()
    books.send(Credit(id="1", org="org_1", amount_nano=100_000 * NANO_PER_RUPEE, reason="r"))
    return books


def _publish(books: Books, number: int, at_ms: int) -> list[int]:
    return _told(books.publish(packed(event(str(number))), at_ms=at_ms).verdicts)


def test_units_without_a_verdict_tell_it_now_and_then() -> None:
    books = _books()
    times = [NOW_MS + wait for wait in (1, 2, ALONE_EVERY_MS, ALONE_EVERY_MS + 1, 2 * ALONE_EVERY_MS + 1)]
    told = [_publish(books, number, at_ms) for number, at_ms in enumerate(times)]
    assert told == [[], [], [3], [], [5]]


def test_beside_a_verdict_it_is_always_told_and_never_twice() -> None:
    books = Books()
    assert [_publish(books, number, NOW_MS) for number in range(3)] == [[1], [2], [3]]
    nothing_new = books.send(Credit(id="1", org="org_1", amount_nano=5, reason="r"))
    assert [key for key, _ in nothing_new.verdicts] == [b"org_1"]


def test_what_units_left_out_is_told_between_them() -> None:
    books = _books()
    assert _publish(books, 1, NOW_MS + 1) == []
    assert progress.is_due(books.state)
    _, [commit] = scripted.run(tell_progress(books.state), lambda _: None)
    assert isinstance(commit, Commit)
    [output] = commit.outputs[TopicPlace(VERDICTS, 0)]
    assert _told([(output.key or b"", output.value or b"")]) == [1]
    assert not progress.is_due(books.state)
    assert scripted.run(tell_progress(books.state), lambda _: None) == (None, [])


def test_a_new_owner_tells_it_in_any_case() -> None:
    books = _books()
    _publish(books, 1, NOW_MS + 1)
    restored = books.restore()
    assert _told(progress.record(restored, beside_verdicts=False)) == [1]
