"""What the gateway library raises: each says whether the event was stored and what to do next.

Owns: the exceptions of the library.
Called by: every module of `gateway/`; gateway authors catch them around `publish`.
"""

from __future__ import annotations


class GatewayError(Exception):
    """The root of everything that this library raises."""


class InvalidEvent(GatewayError, ValueError):
    """The event can never be charged as it is: nothing was stored. `field` names what is wrong."""

    def __init__(self, field: str, problem: str) -> None:
        """Name the field, dotted from the event's root, and say what is wrong with it."""
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class SpoolError(GatewayError):
    """The spool could not take an event. `stored` is False where it surely holds nothing of it.

    `event_id` is the id under which the event may be published again without being charged twice.
    """

    stored: bool | None = False

    def __init__(self, message: str, event_id: str | None = None) -> None:
        """Say what is the matter."""
        super().__init__(message)
        self.event_id = event_id


class SpoolFull(SpoolError):
    """The spool has reached its size, or the disk its end. Nothing was stored; try again later."""


class SpoolBroken(SpoolError):
    """The disk failed. Nothing was stored; the next publish tries again."""


class SpoolUnclear(SpoolBroken):
    """The disk has not answered: the event may be stored. Publish it again under `event_id`."""

    stored = None


class SpoolLocked(SpoolError):
    """Another process has the spool open. Every gateway process needs a spool directory of its own."""


class GatewayClosed(GatewayError):
    """The gateway is not running: it was not entered, or it was left."""
