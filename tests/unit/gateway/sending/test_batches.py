"""Grouping events into records."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pipeline.gateway.sending.batches import Partitions, lanes
from pipeline.gateway.sending.entry import SpoolEntry
from pipeline.partitioning import partition_of
from tests.support.builders import EXAMPLES


@EXAMPLES
@given(
    st.lists(st.tuples(st.sampled_from([f"org_{n}" for n in range(9)]), st.integers(0, 90)), max_size=60),
    st.integers(1, 5),
    st.integers(20, 300),
)
def test_each_event_goes_once_to_its_partition_in_order_and_within_the_size(
    given_events: list[tuple[str, int]], partitions: int, bytes_max: int
) -> None:
    entries = [
        SpoolEntry(number, org, "", 0, b'{"n":%d,"x":"%s"}' % (number, b"x" * padding))
        for number, (org, padding) in enumerate(given_events)
    ]
    found = lanes(entries, Partitions(partitions), bytes_max)
    for partition, records in found.items():
        sent = [entry for record in records for entry in record.entries]
        assert sent == [e for e in entries if partition_of(e.org, partitions) == partition]
        for record in records:
            assert record.partition == partition == partition_of(record.key.decode(), partitions)
            assert len(record.value()) <= bytes_max or len(record.entries) == 1
            document = msgspec.json.decode(record.value())
            numbers = [e["n"] for e in (document if isinstance(document, list) else [document])]
            assert numbers == [entry.number for entry in record.entries]
    assert sum(len(r.entries) for records in found.values() for r in records) == len(entries)
