"""The sink's memory: below the limit and one take, whoever holds what, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipeline.sink.budget import ByteBudget, held_bytes

LIMIT = 1_000_000


@given(
    st.integers(1, 300),
    st.lists(st.tuples(st.integers(0, 299), st.integers(1, 3 * LIMIT), st.booleans()), max_size=300),
)
def test_what_is_held_stays_below_the_limit_and_one_take(
    partitions: int, acts: list[tuple[int, int, bool]]
) -> None:
    budget, held = ByteBudget(LIMIT), Counter[int]()
    for partition in range(partitions):
        budget.join(partition)
    for number, some_bytes, takes in acts:
        partition = number % partitions
        if not takes:
            given_bytes = min(some_bytes, held[partition])
            budget.give_back(partition, given_bytes)
            held[partition] -= given_bytes
        elif budget.may_take(partition):
            budget.take(partition, some_bytes)
            held[partition] += some_bytes
        largest = max((size for _, size, is_take in acts if is_take), default=0)
        assert budget.total == held.total() < LIMIT + max(largest, 1)


@given(st.integers(2, 300), st.integers(LIMIT // 1_000, LIMIT // 4), st.integers(1, LIMIT // 4))
def test_who_never_gives_back_leaves_room_for_the_others(
    partitions: int, stuck_bytes: int, take_bytes: int
) -> None:
    budget = ByteBudget(LIMIT)
    for partition in range(partitions):
        budget.join(partition)
    while budget.may_take(0):
        budget.take(0, stuck_bytes)
    for _ in range(2):
        for partition in range(1, partitions):
            assert budget.may_take(partition)
            budget.take(partition, take_bytes)
            budget.give_back(partition, take_bytes)


@given(st.integers(1, 64), st.integers(1, 100))
def test_everybody_has_a_turn_where_all_want_as_much_as_they_can_have(
    partitions: int, take_share: int
) -> None:
    """Whoever was let in goes on and gives all back; then the next are let in."""
    budget, rounds = ByteBudget(LIMIT), 0
    for partition in range(partitions):
        budget.join(partition)
    waiting = list(range(partitions))
    while waiting:
        taken = Counter[int]()
        for partition in waiting:
            while budget.may_take(partition):
                budget.take(partition, LIMIT // take_share)
                taken[partition] += LIMIT // take_share
        assert taken
        waiting = [partition for partition in waiting if not taken[partition]]
        for partition, some_bytes in taken.items():
            budget.give_back(partition, some_bytes)
        rounds += 1
    assert rounds <= partitions


async def test_a_range_larger_than_what_is_left_waits_and_is_taken_in_whole() -> None:
    changes: list[int] = []
    budget = ByteBudget(LIMIT, lambda: changes.append(budget.total))
    budget.join(0)
    budget.join(1)
    budget.take(0, LIMIT)
    taking = asyncio.create_task(budget.wait_and_take(1, 2 * LIMIT))
    await asyncio.sleep(0)
    assert (taking.done(), budget.total) == (False, LIMIT)
    budget.give_back(0, LIMIT // 2 + 1)
    await taking
    assert budget.total == LIMIT // 2 - 1 + 2 * LIMIT
    budget.leave(1)
    assert (budget.total, changes) == (
        LIMIT // 2 - 1,
        [LIMIT // 2 - 1, LIMIT // 2 - 1 + 2 * LIMIT, LIMIT // 2 - 1],
    )
    budget.give_back(1, 5)
    assert budget.total == LIMIT // 2 - 1


def test_a_record_counts_with_its_copy() -> None:
    assert held_bytes(1_000_000) > 2_000_000
