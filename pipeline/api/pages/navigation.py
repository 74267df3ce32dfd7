"""Which pages there are, for those who look for one: the navigation, the search, and who makes pictures of all.

Owns: their addresses and names, in the order in which they stand.
Called by: `api/pages/rendering.py`.
"""

from __future__ import annotations

from typing import NamedTuple


class NavigationEntry(NamedTuple):
    """A page that has a place in the navigation."""

    address: str
    name: str


MEMBERS = (
    NavigationEntry("/overview", "Overview"),
    NavigationEntry("/activity", "Activity"),
    NavigationEntry("/keys", "Keys"),
    NavigationEntry("/billing", "Billing"),
    NavigationEntry("/statements", "Statements"),
    NavigationEntry("/notices", "Notices"),
)
"""For members of an org; what somebody sees there is their org's."""

PUBLIC = (
    NavigationEntry("/rankings", "Rankings"),
    NavigationEntry("/models", "Models"),
)
"""For everybody."""


def places(*, is_member: bool) -> tuple[NavigationEntry, ...]:
    """Return the pages that somebody may go to."""
    return (*MEMBERS, *PUBLIC) if is_member else PUBLIC
