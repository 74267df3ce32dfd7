"""Sessions as every server knows them: which are over, exchanging one for another, and ending one.

Owns: `SessionRegister`, and how old a session in a link may be.
Called by: `api/server/main.py` and `api/services/context.py` make one; the dependencies and the pages ask it.
Next: `api/http/sessions.py` for the token, `kafka/sessions.py` for what all servers know.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

from pipeline.api.http.sessions import InvalidSessionError, Session, issue_again, verify
from pipeline.session_book import SessionBook, SessionRecord

LINK_AGE_MAX_MS = 60_000
"""How long after its issue a session may be exchanged by a link: links are kept in histories and logs."""

Write = Callable[[SessionRecord], Awaitable[None]]


class SessionRegister:
    """The sessions that are good: signed by the secret, not expired, and not over by any record that was written."""

    def __init__(self, secret: str, now_ms: Callable[[], int], book: SessionBook, write: Write) -> None:
        """`write` returns once the book has taken the record and all before it."""
        self._secret, self._now_ms, self._book, self._write = secret, now_ms, book, write

    @classmethod
    def of_this_process(cls, secret: str, now_ms: Callable[[], int]) -> SessionRegister:
        """Return a register that no other process knows of: for an app that is alone, and without Kafka."""
        book = SessionBook(now_ms)

        async def write(record: SessionRecord) -> None:
            book.take(record)

        return cls(secret, now_ms, book, write)

    def session(self, token: str) -> Session:
        """Return the session of a token. Raises InvalidSessionError."""
        session = verify(self._secret, token, self._now_ms())
        if self._book.is_over(session.session_id, session.org, session.issued_ms):
            raise InvalidSessionError("the session was ended")
        return session

    def linked(self, token: str) -> Session:
        """Return the session of a token in a link. Raises InvalidSessionError where it is too old for that."""
        session = self.session(token)
        if self._now_ms() - session.issued_ms > LINK_AGE_MAX_MS:
            raise InvalidSessionError("the link is too old")
        return session

    async def exchange(self, session: Session) -> str:
        """End a session and return a token for another in its place, once, whoever else tries at the same time.

        Raises InvalidSessionError where it is over, and what writing raises.
        """
        nonce = secrets.token_hex(16)
        await self._write(SessionRecord("exchanged", session.expires_ms, session.session_id, nonce))
        if not self._book.was_exchanged_by(session.session_id, nonce):
            raise InvalidSessionError("the session was exchanged or ended before")
        return issue_again(self._secret, session)

    async def end(self, session: Session) -> None:
        """End a session, everywhere. Raises what writing raises."""
        await self._write(SessionRecord("ended", session.expires_ms, session.session_id))
