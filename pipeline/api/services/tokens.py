"""Access tokens as every server knows them: making one, ending one, and the session that one opens.

Owns: `TokenRegister`, and the rules for making a token: how many an org has and makes, and that no two in force have
the same name.
Called by: `api/server/main.py` and `api/services/context.py` make one; the dependencies and the routes of tokens ask it.
Next: `token_book.py` for what is known, `kafka/tokens.py` for how all servers come to know it.

Servers make tokens at the same time and know of each other's a moment later. So the rules are asked before a token is
written, and once more when it stands between the others, where each server sees the same ones before it: who came too
late revokes its own, which nobody has been shown.

With an `Idempotency-Key` the token's text is drawn from the session secret, a random nonce kept in its record, and the
key: only who knows all three can draw it again, and the same request is answered the same token.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Sequence

from pipeline.api.http.errors import ApiError, invalid, not_found
from pipeline.api.http.idempotency import command_id
from pipeline.api.http.sessions import InvalidSessionError, Session
from pipeline.ist import DAY_MS
from pipeline.outcomes import RefusalCode
from pipeline.token_book import (
    PREFIX_CHARS,
    TOKEN_BYTES,
    TokenBook,
    TokenRecord,
    ended,
    hash_token,
    signed,
    token_text,
)

TOKENS_MAX = 50
"""How many tokens of an org are in force at once."""
TOKENS_A_DAY = 50
"""How many an org makes in 24 hours, those counted that are revoked again."""
CREATE_ROUTE = "POST /me/tokens"

Write = Callable[[TokenRecord], Awaitable[None]]


class TokenRegister:
    """The access tokens that are good: written, neither expired nor revoked."""

    def __init__(self, secret: str, now_ms: Callable[[], int], book: TokenBook, write: Write) -> None:
        """`write` returns once the book has taken the record and all before it."""
        self._secret, self._now_ms, self._book, self._write = secret, now_ms, book, write

    @classmethod
    def of_this_process(cls, secret: str, now_ms: Callable[[], int]) -> TokenRegister:
        """Return a register that no other process knows of: for an app that is alone, and without Kafka."""
        book = TokenBook(secret, now_ms)

        async def write(record: TokenRecord) -> None:
            book.take(record)

        return cls(secret, now_ms, book, write)

    def session(self, text: str) -> Session:
        """Return what a token opens: its org, as a member. Raises InvalidSessionError."""
        record = self._book.in_force(text)
        if record is None:
            raise InvalidSessionError("the access token is unknown, expired or revoked")
        return Session(record.org, "member", "", record.id, record.created_ms, record.expires_ms)

    def of_org(self, org: str) -> list[TokenRecord]:
        """Return an org's tokens, oldest first, also those that ended in the last 30 days."""
        shown = [record for record in self._book.of_org(org) if not _is_withdrawn(record)]
        return sorted(shown, key=lambda record: record.created_ms)

    async def create(
        self, org: str, name: str, expires_days: int, request: str, key: str | None
    ) -> tuple[TokenRecord, str]:
        """Make a token; return its record and its text, which is kept nowhere.

        `request` is the fingerprint of the caller's request, `key` its Idempotency-Key. The same again returns the same.
        Raises ApiError, and what writing raises: then the same key tells later whether it was made.
        """
        token_id = "tok_" + hashlib.sha256(command_id(org, CREATE_ROUTE, key).encode()).hexdigest()[:24]
        made = self._book.get(org, token_id)
        nonce = secrets.token_hex(16)
        text = self._drawn(nonce, key)
        if made is None:
            self._check(self._book.of_org(org), name)
            now_ms = self._now_ms()
            await self._write(
                signed(
                    TokenRecord(
                        id=token_id,
                        org=org,
                        name=name,
                        prefix=text[:PREFIX_CHARS],
                        hash=hash_token(text),
                        nonce=nonce,
                        fingerprint=request,
                        created_ms=now_ms,
                        expires_ms=now_ms + expires_days * DAY_MS,
                    ),
                    self._secret,
                )
            )
            made = self._book.get(org, token_id)
            assert made is not None, "what was written was taken"
            if made.nonce == nonce:
                await self._withdraw_if_late(made)
        if made.fingerprint != request:
            raise invalid("Idempotency-Key", "this Idempotency-Key was used for another request")
        if _is_withdrawn(made):
            raise invalid("Idempotency-Key", "this request was refused; repeat it with a new Idempotency-Key")
        return made, text if key is None else self._drawn(made.nonce, key)

    async def revoke(self, org: str, token_id: str) -> TokenRecord:
        """Revoke a token for good; return its record. One that is revoked already stays as it is.

        Raises ApiError 404 for one that the org does not have, and what writing raises.
        """
        record = self._book.get(org, token_id)
        if record is None or _is_withdrawn(record):
            raise not_found("no such token")
        if not record.revoked_ms:
            # Not the time of its making, by which a token is known that was withdrawn.
            await self._write(ended(record, max(self._now_ms(), record.created_ms + 1), self._secret))
            record = self._book.get(org, token_id) or record
        return record

    def _drawn(self, nonce: str, key: str | None) -> str:
        """Return the text of a new token, or that which belongs to a nonce and an Idempotency-Key."""
        if key is None:
            return token_text(secrets.token_bytes(TOKEN_BYTES))
        drawn = hmac.digest(self._secret.encode(), f"access-token\0{nonce}\0{key}".encode(), hashlib.sha256)
        return token_text(drawn[:TOKEN_BYTES])

    def _check(self, others: Sequence[TokenRecord], name: str) -> None:
        """Raise ApiError where these tokens leave no room for another one, or not by this name."""
        now_ms = self._now_ms()
        in_force = [record for record in others if record.is_in_force(now_ms)]
        if any(record.name == name for record in in_force):
            raise ApiError(
                RefusalCode.DUPLICATE_TOKEN_NAME, f"a token in force is named {name!r} already", param="name"
            )
        if len(in_force) >= TOKENS_MAX:
            raise ApiError(RefusalCode.TOKEN_LIMIT_REACHED, f"an org has at most {TOKENS_MAX} access tokens")
        made = sorted(record.created_ms for record in others if record.created_ms > now_ms - DAY_MS)
        if len(made) >= TOKENS_A_DAY:
            wait_s = max(1, -(-(made[-TOKENS_A_DAY] + DAY_MS - now_ms) // 1000))
            raise ApiError(
                RefusalCode.RATE_LIMIT_EXCEEDED,
                f"an org makes at most {TOKENS_A_DAY} access tokens in 24 hours, revoked ones counted",
                headers={"Retry-After": str(wait_s)},
            )

    async def _withdraw_if_late(self, made: TokenRecord) -> None:
        """Revoke a token that others came before, so that the rules do not hold with it. Raises ApiError then."""
        known = self._book.of_org(made.org)
        before = known[: next(n for n, record in enumerate(known) if record.id == made.id)]
        try:
            self._check(before, made.name)
        except ApiError:
            await self._write(ended(made, made.created_ms, self._secret))
            raise


def _is_withdrawn(record: TokenRecord) -> bool:
    """Whether a token was revoked by who made it, before anybody saw it."""
    return record.revoked_ms == record.created_ms
