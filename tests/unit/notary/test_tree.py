"""The tree of a day: every org's path leads to its root, no other leaf does, and a path tells nothing of other orgs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.notary.chain import OrgState
from pipeline.notary.kept import DayChunk, DayIndex, DayTree, path_in
from pipeline.notary.tree import CHUNK_ORGS, DEPTH, OrgPath, Placed, climbed, day_secret, leaf, place_of
from tests.support.builders import EXAMPLES

SEED = bytes(range(32))
STATES = st.builds(
    OrgState, st.integers(1, 2**40), st.integers(-(2**63), 2**63 - 1), st.binary(min_size=32, max_size=32)
)


def path(tree: DayTree, org: str) -> tuple[OrgState, OrgPath]:
    """Return an org of a tree and its path."""
    index = tree.index([0] * len(tree.chunks), {})
    found = [(each, chunk) for chunk in tree.chunks for each in chunk if each.org == org]
    [(each, chunk)] = found
    return each.state, path_in(tree.secret, each, DayChunk(chunk), index)


def root_by(org: str, state: OrgState, path: OrgPath) -> bytes:
    return climbed(leaf(org, state, path.blind), path.place, path.beside)


def many(orgs: int) -> dict[str, OrgState]:
    return {
        f"org_{number}": OrgState(number + 1, -number, bytes([number % 256] * 32)) for number in range(orgs)
    }


@EXAMPLES
@given(st.dictionaries(st.text(min_size=1, max_size=8), STATES, min_size=1, max_size=6), STATES)
def test_each_org_leads_to_the_root_and_nothing_else_does(orgs: dict[str, OrgState], other: OrgState) -> None:
    orgs = {org: state for org, state in orgs.items() if org.isascii()} or {"a": other}
    tree = DayTree(day_secret(SEED, 7), orgs)
    for org, expected in orgs.items():
        state, way = path(tree, org)
        assert state == expected
        assert root_by(org, state, way) == tree.root
        assert root_by(org + "x", state, way) != tree.root
        assert state == other or root_by(org, other, way) != tree.root


def test_a_tree_in_many_chunks_is_the_tree_in_one() -> None:
    """Whoever keeps it in other chunks makes the same root and the same paths."""
    states = many(3 * CHUNK_ORGS)
    tree = DayTree(day_secret(SEED, 7), states)
    assert tree.bits == 2
    whole = tuple(org for chunk in tree.chunks for org in chunk)
    for some in whole[:: CHUNK_ORGS // 2]:
        state, way = path(tree, some.org)
        assert root_by(some.org, state, way) == tree.root
        assert path_in(tree.secret, some, DayChunk(whole), DayIndex(0, (0,), (tree.root,), {})) == way


def test_the_root_is_these_bytes() -> None:
    tree = DayTree(day_secret(SEED, 20_000), many(3))
    assert [(org.place, org.org) for chunk in tree.chunks for org in chunk] == [
        (1675623, "org_2"),
        (7519006, "org_1"),
        (7964302, "org_0"),
    ]
    assert tree.root.hex() == "0287e1792f1640416a3c6b0e4ce5bc3f386a94f19e887bba0f5b3133e0547b7e"


def test_a_path_has_one_length_and_tells_no_one_how_many_orgs_there_are() -> None:
    """Nor which of them had rows: nothing beside an org is the same on another day, or where another org is."""
    day, next_day = DayTree(day_secret(SEED, 7), many(600)), DayTree(day_secret(SEED, 8), many(600))
    alone, among, later, other = (
        path(tree, org)[1]
        for tree, org in (
            (DayTree(day_secret(SEED, 7), many(1)), "org_0"),
            (day, "org_0"),
            (next_day, "org_0"),
            (day, "org_1"),
        )
    )
    assert len(alone.beside) == len(among.beside) == DEPTH
    assert alone.place == among.place
    assert not {*among.beside, among.blind} & {*later.beside, later.blind}
    assert len({*among.beside} & {*other.beside}) < DEPTH


def test_two_orgs_that_would_stand_at_one_place_stand_at_two() -> None:
    secret = day_secret(SEED, 7)
    orgs: dict[int, str] = {}
    number = 0
    while True:
        org = f"org_{number}"
        place = place_of(secret, org, 0)
        if place in orgs:
            break
        orgs[place] = org
        number += 1
    tree = DayTree(secret, {each: OrgState(1, 1, bytes(32)) for each in (org, orgs[place])})
    first, second = sorted((org, orgs[place]))
    at = {each.org: each for chunk in tree.chunks for each in chunk}
    assert at[first] == Placed(place, first, OrgState(1, 1, bytes(32)))
    assert at[second].place == place_of(secret, second, 1)
