"""The partition of an org, against aiokafka's own partitioner."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contract import SCHEMAS
from pipeline.partitioning import murmur2, partition_of
from tests.support.builders import MANY_EXAMPLES


@MANY_EXAMPLES
@given(st.binary(max_size=300))
def test_murmur2_is_kafkas(data: bytes) -> None:
    assert murmur2(data) == aiokafka_murmur2(data) & 0xFFFFFFFF


@MANY_EXAMPLES
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128), st.integers(1, 1024))
def test_an_org_is_where_a_kafka_producer_puts_it(org: str, partitions: int) -> None:
    every = list(range(partitions))
    assert partition_of(org, partitions) == DefaultPartitioner()(org.encode(), every, every)


@pytest.mark.parametrize(
    ("data", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_gives_what_the_java_client_tests_expect(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed & 0xFFFFFFFF


def test_the_corpus_has_orgs_where_they_are() -> None:
    vectors: list[dict[str, Any]] = json.loads((SCHEMAS / "corpus" / "partitions.json").read_text())["orgs"]
    assert sum(vector["murmur2"] >= 2**31 for vector in vectors) > 5
    for vector in vectors:
        org, partitions = vector["org"], vector["partitions"]
        assert murmur2(org.encode()) == vector["murmur2"]
        assert {int(number): where for number, where in partitions.items()} == {
            int(number): partition_of(org, int(number)) for number in partitions
        }
        for number, where in partitions.items():
            every = list(range(int(number)))
            assert DefaultPartitioner()(org.encode(), every, every) == where
