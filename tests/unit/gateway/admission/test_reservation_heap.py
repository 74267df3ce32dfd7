"""Reservations that name no request, against a plain list, and through `Holds` as admission uses them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.gateway.admission import reservation_heap
from pipeline.gateway.admission.holds import Hold, Holds, Purse
from pipeline.gateway.admission.reservation_heap import ReservationHeap
from tests.support.builders import EXAMPLES, MANY_EXAMPLES

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add"] * 4 + ["smallest"] * 2 + ["amount", "oldest", "reopen"]), st.integers(0, 30)
    ),
    max_size=120,
)


@MANY_EXAMPLES
@given(_STEPS)
def test_it_is_a_list_searched_from_its_beginning(steps: list[tuple[str, int]]) -> None:
    """The model: (amount, number) pairs in the order they were added, looked through in full each time."""
    heap, model = ReservationHeap(), list[tuple[int, int]]()
    for number, (what, amount) in enumerate(steps):
        if what in ("add", "reopen"):
            heap.add(amount, number)
            model.append((amount, number))
        elif what == "oldest":
            if model:
                heap.remove(model.pop(0)[0])
        else:
            wanted = None if what == "smallest" else amount
            matching = [pair for pair in model if wanted is None or pair[0] == wanted]
            expected = min(matching, default=None)
            assert heap.find(wanted) == (expected[1] if expected else None)
            if expected:
                heap.remove(expected[0])
                model.remove(expected)
        assert bool(heap) == bool(model)
    assert heap.find() == (min(model)[1] if model else None)


@EXAMPLES
@given(_STEPS)
def test_holds_take_release_expire_and_reopen_as_the_list_does(steps: list[tuple[str, int]]) -> None:
    holds, purse, taken = Holds(limit_ms=100), Purse(), list[Hold]()
    model: list[tuple[int, int]] = []
    for now_ms, (what, amount) in enumerate(steps):
        if what == "add":
            holds.place(purse, "key", amount, None, now_ms)
            model.append((now_ms, amount))
        elif what == "reopen" and taken:
            hold = taken.pop()
            holds.reopen(hold, now_ms)
            model.append((now_ms, hold.amount_nano))
        elif what == "oldest" and model:
            oldest_ms, oldest = model.pop(0)
            assert holds.expire(oldest_ms + 100) == 1
            del oldest
        elif what in ("smallest", "amount"):
            wanted = None if what == "smallest" else amount
            matching = [each for _, each in model if wanted is None or each == wanted]
            found = holds.take(purse, "key", None, wanted)
            assert (found.amount_nano if found else None) == min(matching, default=None)
            if found:
                taken.append(found)
                model.remove(next(pair for pair in model if pair[1] == found.amount_nano))
        assert len(holds) == len(model)
        assert purse.held_nano == sum(each for _, each in model) + sum(hold.amount_nano for hold in taken)
    assert (purse.unnamed is None) == (not model)


@pytest.mark.parametrize("seed", range(20))
def test_amounts_that_are_gone_are_forgotten_though_a_smaller_one_stays(seed: int) -> None:
    heap = ReservationHeap()
    heap.add(0, -1)
    for number, amount in enumerate(random.Random(seed).sample(range(1, 10**9), 400)):
        heap.add(amount, number)
        assert heap.find(amount) == number
        heap.remove(amount)
        assert len(heap._amounts) <= reservation_heap.EMPTY_KEPT + 3 + len(heap._queues) // 2
        assert len(heap._queues) <= 2 * reservation_heap.EMPTY_KEPT + 4
    assert heap.find() == -1
