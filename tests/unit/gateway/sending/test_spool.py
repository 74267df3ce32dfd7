"""The spool on disk: crashes at every byte, reopening, order, acknowledging."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.gateway.errors import SpoolBroken, SpoolLocked
from pipeline.gateway.sending.entry import SpoolEntry, encode
from pipeline.gateway.sending.spool import RESTART_STEP, Spool
from tests.support.builders import EXAMPLES

NOW_NS = 1_781_289_000_000_000_000


def open_spool(directory: Path, segment_bytes: int = 400, now_ns: int = NOW_NS) -> Spool:
    return Spool(directory, segment_bytes=segment_bytes, sync=True, now_ns=now_ns)


def entry(number: int, org: str = "org_1") -> SpoolEntry:
    return SpoolEntry(number, org, "", 0, b'{"n":%d}' % number)


def append(spool: Spool, first: int, count: int) -> list[int]:
    numbers = list(range(first, first + count))
    spool.append(b"".join(encode(entry(number)) for number in numbers), first)
    return numbers


def read_all(spool: Spool) -> list[int]:
    numbers: list[int] = []
    cursor = None
    while True:
        entries, cursor = spool.read(cursor, 100)
        if not entries:
            return numbers
        numbers += [each.number for each in entries]


def test_events_are_read_in_order_over_segments_and_after_reopening(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    first = spool.next_number
    written = [number for at in range(0, 60, 3) for number in append(spool, first + at, 3)]
    assert len(list(tmp_path.glob("*.spool"))) > 3
    assert read_all(spool) == written
    spool.close()
    again = open_spool(tmp_path)
    assert read_all(again) == written
    assert again.next_number > written[-1]
    assert again.identity.spool == spool.identity.spool
    again.close()


def test_a_torn_end_is_cut_at_every_byte_and_nothing_stored_is_lost(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    spool = open_spool(whole, segment_bytes=10_000)
    first = spool.next_number
    append(spool, first, 2)
    [segment] = whole.glob("*.spool")
    durable = segment.stat().st_size
    append(spool, first + 2, 1)
    spool.close()
    for size in range(durable, segment.stat().st_size):
        copy = tmp_path / str(size)
        shutil.copytree(whole, copy)
        os.truncate(copy / segment.name, size)
        torn = open_spool(copy)
        assert read_all(torn) == [first, first + 1]
        number = torn.next_number
        append(torn, number, 1)
        assert read_all(torn) == [first, first + 1, number]
        torn.close()


def test_garbage_after_the_end_is_cut(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    numbers = append(spool, spool.next_number, 2)
    spool.close()
    [segment] = tmp_path.glob("*.spool")
    with segment.open("ab") as file:
        file.write(bytes(4096) + encode(entry(numbers[-1] + 9)))
    again = open_spool(tmp_path)
    assert read_all(again) == numbers
    again.close()


def test_damage_before_the_end_is_never_skipped(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for at in range(20):
        append(spool, spool.next_number + at, 1)
    spool.close()
    oldest = min(tmp_path.glob("*.spool"))
    data = bytearray(oldest.read_bytes())
    data[30] ^= 1
    oldest.write_bytes(data)
    with pytest.raises(SpoolBroken, match="damaged at byte 8"):
        open_spool(tmp_path)
    assert oldest.read_bytes() == bytes(data)


def test_numbers_rise_over_restarts_even_with_the_clock_set_back_and_the_events_gone(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    first = spool.next_number
    assert first == NOW_NS
    append(spool, first, 1000)
    spool.close()
    for segment in tmp_path.glob("*.spool"):
        segment.unlink()
    again = open_spool(tmp_path, now_ns=5)
    assert again.next_number == first + RESTART_STEP
    again.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    with pytest.raises(SpoolLocked, match="another process"):
        open_spool(tmp_path)
    spool.close()
    open_spool(tmp_path).close()


def test_a_lost_spool_is_another_source(tmp_path: Path) -> None:
    one, two = open_spool(tmp_path / "one"), open_spool(tmp_path / "two")
    assert one.identity.spool != two.identity.spool
    one.close()
    two.close()


def test_acknowledged_segments_go_and_what_waits_stays(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    first = spool.next_number
    for at in range(0, 100, 2):
        append(spool, first + at, 2)
    segments = len(list(tmp_path.glob("*.spool")))
    spool.acknowledge(first + 80)
    left = len(list(tmp_path.glob("*.spool")))
    assert 2 <= left < segments / 2
    assert read_all(spool) == list(range(first + 81, first + 100))
    spool.close()
    again = open_spool(tmp_path)
    assert read_all(again) == list(range(first + 81, first + 100))
    again.close()


def test_a_damaged_mark_means_that_everything_there_is_sent_again(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    numbers = append(spool, spool.next_number, 3)
    spool.acknowledge(numbers[1])
    spool.close()
    (tmp_path / "acknowledged").write_bytes(b"\x01" * 12)
    again = open_spool(tmp_path)
    assert read_all(again) == numbers
    again.close()


def test_a_failed_append_leaves_nothing_and_the_next_one_goes_on(tmp_path: Path) -> None:
    home = tmp_path / "spool"
    spool = open_spool(home, segment_bytes=60)
    first = spool.next_number
    append(spool, first, 3)
    home.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        append(spool, first + 3, 1)
    (tmp_path / "away").rename(home)
    append(spool, first + 4, 1)
    assert read_all(spool) == [first, first + 1, first + 2, first + 4]
    spool.close()
    again = open_spool(home)
    assert read_all(again) == [first, first + 1, first + 2, first + 4]
    again.close()


_counter = itertools.count()


@EXAMPLES
@given(st.lists(st.sampled_from(["append", "acknowledge", "reopen", "tear", "read"]), max_size=25), st.data())
def test_whatever_happens_the_spool_holds_what_was_stored_and_not_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("spool") / str(next(_counter))
    spool = open_spool(directory, segment_bytes=150)
    stored: list[int] = []
    acknowledged, number = -1, spool.next_number
    for step in steps:
        if step == "append":
            stored += append(spool, number, data.draw(st.integers(1, 4)))
            number = stored[-1] + 1
        elif step == "acknowledge" and stored:
            acknowledged = max(acknowledged, data.draw(st.sampled_from(stored)))
            spool.acknowledge(acknowledged)
        elif step in ("reopen", "tear"):
            spool.close()
            segments = sorted(directory.glob("*.spool"))
            if step == "tear" and segments:
                with segments[-1].open("ab") as file:
                    file.write(encode(entry(number))[: data.draw(st.integers(1, 30))])
            spool = open_spool(directory, segment_bytes=150)
            assert spool.next_number > max(stored, default=0)
            number = spool.next_number
        assert read_all(spool) == [each for each in stored if each > acknowledged]
    spool.close()
    shutil.rmtree(directory)


@pytest.mark.parametrize("identity", [b'{"format":2}', b'{"spool":"a","more":1}'], ids=["newer", "more"])
def test_a_spool_of_a_newer_library_is_refused_and_left_as_it_is(tmp_path: Path, identity: bytes) -> None:
    open_spool(tmp_path).close()
    (tmp_path / "spool.json").write_bytes(identity)
    with pytest.raises(SpoolBroken, match=r"a newer release|unknown field"):
        open_spool(tmp_path)
    assert (tmp_path / "spool.json").read_bytes() == identity


def test_a_segment_of_a_newer_library_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    append(spool, spool.next_number, 1)
    spool.close()
    [segment] = tmp_path.glob("*.spool")
    newer = b"BRSPOOL2" + segment.read_bytes()[8:]
    segment.write_bytes(newer)
    with pytest.raises(SpoolBroken, match="a newer version"):
        open_spool(tmp_path)
    assert segment.read_bytes() == newer


def test_a_spool_that_names_no_format_is_of_the_first(tmp_path: Path) -> None:
    open_spool(tmp_path).close()
    (tmp_path / "spool.json").write_bytes(b'{"spool":"a","started":7}')
    spool = open_spool(tmp_path)
    assert spool.identity.spool == "a"
    spool.close()
    assert (tmp_path / "spool.json").read_bytes().startswith(b'{"format":1,"spool":"a"')
