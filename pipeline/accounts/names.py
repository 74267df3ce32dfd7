"""What a person may call a key or an org: text that shows as what it is.

Owns: the one rule for such names, at every door and in the core.
Called by: `accounts/keys.py`, `accounts/decide.py`, `api/routes/keys.py`.
"""

from __future__ import annotations

import unicodedata

from pipeline.accounts.commands import CommandRefusal
from pipeline.outcomes import RefusalCode

NAME_CHARS_MAX = 60
_JOINERS = "\u200c\u200d"
_VIRAMA = 9
"""The combining class of the signs that join consonants in the scripts of India."""


class BadNameError(ValueError):
    """A name that is empty, too long, or holds what does not print; the message is for people."""


def plain_name(text: str) -> str:
    """Return a name normalised (Unicode NFC) and trimmed. Raises BadNameError.

    Nothing that does not print is taken: no control characters, no line ends, no marks that turn the direction of
    writing. The two joiners are taken where they shape a letter, right after a virama (RFC 5892, A.1 and A.2).
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(name) <= NAME_CHARS_MAX:
        raise BadNameError(f"a name has 1 to {NAME_CHARS_MAX} characters")
    for before, char in zip(" " + name, name, strict=False):
        if not char.isprintable() and not (char in _JOINERS and unicodedata.combining(before) == _VIRAMA):
            raise BadNameError(f"a name cannot hold the character U+{ord(char):04X}")
    return name


def name_or_refusal(text: str) -> str | CommandRefusal:
    """Return what a command's name is kept as, or the refusal of the command."""
    try:
        return plain_name(text)
    except BadNameError as error:
        return CommandRefusal(RefusalCode.INVALID_REQUEST, str(error), "name")
