"""Which city and state a PIN code belongs to, from data that travels with the product.

Owns: the lookup, and how names of the data are written for people.
Called by: `api/routes/pincodes.py`. Nothing is fetched: the package `indian-pincode` carries the directory of the
Department of Posts.

The directory knows districts, not cities, so the district stands for the city: a suggestion that whoever
fills in an address may correct.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

ATTRIBUTION = (
    "PIN codes: All India Pincode Directory, Department of Posts, Government of India, "
    "data.gov.in, under the Government Open Data License - India (GODL-India)."
)
"""The licence asks for this line wherever the data is shown."""

_PIN = re.compile(r"[0-9]{6}", re.ASCII)
_SMALL_WORDS = frozenset({"and", "of"})


class PinFormatError(ValueError):
    """A text that is no PIN code: anything but six digits."""


@dataclass(frozen=True)
class Place:
    """Where a PIN code is: `city` is the district."""

    pin: str
    city: str
    state: str


@lru_cache(maxsize=4096)
def lookup(pin: str) -> Place | None:
    """Return the place of a PIN code, None for one that nobody knows. Raises PinFormatError.

    The data is read at the first call, in a tenth of a second; after that it is a search in memory.
    """
    if _PIN.fullmatch(pin) is None:
        raise PinFormatError("a PIN code has six digits")
    import indian_pincode

    found = indian_pincode.get_details(pin)
    if found is None or found["state"] is None or not found["districts"]:
        return None
    districts, state = found["districts"], found["state"]
    # Some PIN codes lie in several districts, or in two states: take a district of the main state.
    of_state = set(indian_pincode.list_districts(state)) if len(districts) > 1 else set()
    city = next((district for district in districts if district in of_state), districts[0])
    return Place(pin, _written(city), _written(state))


def _written(name: str) -> str:
    """Return a name of the data, which is all capitals, as people write it."""
    words = [word if word in _SMALL_WORDS else _capitalised(word) for word in name.lower().split()]
    if len(words) > 1 and words[0] == "The":
        words = words[1:]
    return " ".join(words)


def _capitalised(word: str) -> str:
    return re.sub(r"(^|[-.(])([a-z])", lambda match: match[1] + match[2].upper(), word)
