"""Where rows belong, and what several shards' answers come to."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clickhouse.adding import PUT_TOGETHER, put_together
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.cluster import ONLY_SHARD, Shard, ShardsError, misplaced
from pipeline.clickhouse.queries import queries
from pipeline.clickhouse.shards import Shards, check_partitions, open_database
from pipeline.partitioning import partition_of

ASKED_OF_ONE = {"is_rolled_up", "deployments", "rows_around"}
"""Queries about the whole platform that name no partition, and that a shard is asked by whoever knows which."""


def _shards(count: int) -> Shards:
    """Return shards that are connected to nowhere."""
    found = open_database(f"http://{';'.join(f'host-{number}' for number in range(count))}/db")
    assert isinstance(found, Shards)
    return found


@given(st.text(min_size=1, max_size=20), st.integers(2, 4), st.integers(1, 16))
def test_an_orgs_shard_is_that_of_its_partition(org: str, count: int, of_each: int) -> None:
    shards = _shards(count)
    check_partitions(shards, count * of_each)
    partition = partition_of(org, count * of_each)
    assert shards.of_org(org) is shards.of_partition(partition)
    assert shards.of_org(org).shard.number == 1 + partition % count
    shards.close()


def test_every_shard_knows_which_it_is() -> None:
    shards = _shards(3)
    assert [engine.shard for engine in shards.shards] == [Shard(1, 3), Shard(2, 3), Shard(3, 3)]
    shards.close()


def test_one_shard_is_an_engine() -> None:
    database = open_database("http://host/db")
    assert isinstance(database, Engine)
    assert database.shard == ONLY_SHARD
    assert list(database.shards) == [database]
    assert database.of_org("org_a") is database is database.of_partition(7)
    database.close()


def test_so_many_shards_that_some_would_get_more_partitions_are_refused() -> None:
    shards = _shards(3)
    with pytest.raises(ShardsError, match=r"has 3 shards, which 8 partitions .* name 1, 2, 4, 8 of them"):
        check_partitions(shards, 8)
    check_partitions(shards, 24)
    shards.close()


def test_what_a_database_says_that_it_is() -> None:
    assert misplaced(Shard(1, 2), []) is None
    assert misplaced(Shard(1, 2), [Shard(1, 2)]) is None
    for found in ([Shard(2, 2)], [Shard(1, 3)], [ONLY_SHARD], [Shard(1, 2), Shard(2, 2)]):
        words = misplaced(Shard(1, 2), found)
        assert words is not None
        assert "as shard 1 of 2 that was written as shard" in words


def test_of_each_query_about_the_platform_it_is_known_how_shards_answer_it() -> None:
    for each in queries():
        if each.scope == "platform":
            ways = (each.name in PUT_TOGETHER, "partition" in each.parameters, each.name in ASKED_OF_ONE)
            assert sum(ways) == 1 or ways == (False, True, True), each.name
    assert {each.name for each in queries()} >= PUT_TOGETHER


def _lines(rows: Sequence[Sequence[object]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _rows(answer: bytes) -> list[list[object]]:
    return sorted(json.loads(line) for line in answer.splitlines())


COUNT = st.integers(-(2**127), 2**127)
DAYS = st.dates().map(lambda day: day.isoformat())
BY_DAY = st.lists(st.tuples(st.sampled_from(["events", "usage_day"]), DAYS, COUNT, COUNT, COUNT, COUNT))


@given(st.lists(BY_DAY, min_size=1, max_size=4))
def test_sums_of_shards_are_added_up_to_the_last_digit(of_shards: list[list[tuple[object, ...]]]) -> None:
    sums: dict[tuple[object, ...], list[int]] = defaultdict(lambda: [0] * 4)
    grouped = []
    for rows in of_shards:
        group: dict[tuple[object, ...], list[int]] = defaultdict(lambda: [0] * 4)
        for table, day, *values in rows:
            for at, value in enumerate(values):
                assert isinstance(value, int)
                sums[table, day][at] += value
                group[table, day][at] += value
        grouped.append(_lines([[*names, *values] for names, values in group.items()]))
    found = _rows(put_together("verify_days", grouped))
    assert found == sorted([*names, *values] for names, values in sums.items())


def test_models_of_any_name_are_added_up() -> None:
    one, two = [['é "\n{', 1, 2, 3, 4], ["b", 1, 1, 1, 1]], [['é "\n{', 10, 20, 30, 2**80]]
    assert _rows(put_together("rankings", [_lines(one), _lines(two)])) == [
        ["b", 1, 1, 1, 1],
        ['é "\n{', 11, 22, 33, 4 + 2**80],
    ]
    assert put_together("status_debited", [b"[3]\n", b"[4]\n", b"[0]\n"]) == b"[7]\n"


def test_a_month_is_named_once_from_its_first_day_on_any_shard_to_its_last() -> None:
    one = [["2026-05-03", "2026-05-20"], ["2026-06-01", "2026-06-02"]]
    two = [["2026-05-04", "2026-05-31"]]
    assert _rows(put_together("verify_months", [_lines(one), _lines(two)])) == [
        ["2026-05-03", "2026-05-31"],
        ["2026-06-01", "2026-06-02"],
    ]


def test_what_is_by_org_is_listed_side_by_side_and_one_answer_stays_as_it_is() -> None:
    assert put_together("hour_spenders", [b'["org_a"]\n', b"", b'["org_b"]\n']) == b'["org_a"]\n["org_b"]\n'
    assert put_together("anything", [b"as it is"]) == b"as it is"
    with pytest.raises(KeyError):
        put_together("anything", [b"[1]\n", b"[2]\n"])
