"""Which sessions are over before their time: signed out, exchanged for another, or ended by an operator.

Owns: the record of each on `metering.sessions`, and what is known of all of them together (`SessionBook`). Pure.
Called by: `kafka/sessions.py` writes and follows the records; `api/services/sessions.py` asks.

A session token is good by its signature alone, so that it is over has to be known to every server. Each follows
the topic's one partition from its beginning, and all take the same records in the same order. So of two records that
exchange the same session the first counts, for everybody, whoever wrote it. A record holds for as long as the sessions
it is about could have lasted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import Struct

from pipeline.formats import SESSIONS
from pipeline.topics import SESSIONS_KEPT_MS

SESSION_MAX_MS = SESSIONS_KEPT_MS // 2
"""No session lasts longer, or it could outlive what says that it is over."""
SWEEP_FROM = 1_000


class SessionRecord(Struct, frozen=True, omit_defaults=True, tag_field="format", tag=SESSIONS.number):
    """That one session is over (`exchanged` for another, or `ended`), or all of an org issued before `before_ms`.

    `nonce` tells an exchange from others of the same session. At `until_ms` the sessions are over by themselves.
    """

    kind: Literal["exchanged", "ended", "org_ended"]
    until_ms: int
    session_id: str = ""
    nonce: str = ""
    org: str = ""
    before_ms: int = 0


encode_session = msgspec.json.Encoder().encode
_decode = SESSIONS.decoder(SessionRecord)


def decode_session(value: bytes) -> SessionRecord:
    """Return the record of a value. Raises NewerFormatError, and msgspec.MsgspecError for what is none."""
    return _decode(value)


def ended_org(org: str, now_ms: int) -> SessionRecord:
    """Return the record that ends all sessions of an org that were issued before now."""
    return SessionRecord("org_ended", now_ms + SESSION_MAX_MS, org=org, before_ms=now_ms)


class SessionBook:
    """What the records so far say. Memory is let go of as the sessions' own time passes."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        """Start with no record; `now_ms` is the clock."""
        self._now_ms = now_ms
        self._over: dict[str, tuple[str, int]] = {}
        self._orgs: dict[str, tuple[int, int]] = {}
        self._sweep_at = SWEEP_FROM

    def __len__(self) -> int:
        """Return how many sessions and orgs are kept."""
        return len(self._over) + len(self._orgs)

    def take(self, record: SessionRecord) -> None:
        """Take a record in: they come in the order of the topic. Of several about one session the first counts."""
        if record.until_ms <= self._now_ms():
            return
        if record.kind == "org_ended":
            before_ms, until_ms = self._orgs.get(record.org, (0, 0))
            self._orgs[record.org] = max(before_ms, record.before_ms), max(until_ms, record.until_ms)
        else:
            self._over.setdefault(record.session_id, (record.nonce, record.until_ms))
        if len(self) >= self._sweep_at:
            self._sweep()

    def is_over(self, session_id: str, org: str, issued_ms: int) -> bool:
        """Whether a session was ended or exchanged, by itself or with all of its org."""
        return session_id in self._over or issued_ms < self._orgs.get(org, (0, 0))[0]

    def was_exchanged_by(self, session_id: str, nonce: str) -> bool:
        """Whether the first that ended a session is the exchange with this nonce."""
        return self._over.get(session_id, ("", 0))[0] == nonce

    def _sweep(self) -> None:
        now_ms = self._now_ms()
        self._over = {session: kept for session, kept in self._over.items() if kept[1] > now_ms}
        self._orgs = {org: kept for org, kept in self._orgs.items() if kept[1] > now_ms}
        self._sweep_at = max(SWEEP_FROM, 2 * len(self))
