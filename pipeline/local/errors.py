"""What may go wrong with the local parts, as one error a person can read.

Owns: `LocalError`.
Called by: every module of `local/`; `cli/main.py` prints it.
"""

from __future__ import annotations


class LocalError(Exception):
    """A local part cannot run. The message says which, why, and where to look."""
