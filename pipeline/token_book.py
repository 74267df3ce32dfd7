"""Which access tokens there are: what lets a program read an org's figures without a session.

Owns: the record of each on `metering.tokens`, its signature, and what is known of all of them (`TokenBook`). Pure.
Called by: `kafka/tokens.py` writes and follows the records; `api/services/tokens.py` makes, ends and asks for them.

A token is `brt-` and 192 random bits. It is shown to whoever made it and never kept: a record has its SHA-256. All
servers follow the topic's one partition, so they take the same records in the same order. Two rules give the same answer
to who reads the topic from its beginning after it was compacted, too: of several records that make the same token the
first counts, and what was revoked once stays revoked.

Records are signed with the session secret: whoever may write the topic, and does not hold that secret, makes no token.
So the signature covers all of a record, and a record with a new field is one of a new format.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable

import msgspec
from msgspec import Struct, structs

from pipeline.formats import TOKENS
from pipeline.ist import DAY_MS
from pipeline.topics import TOKENS_KEPT_MS

START = "brt-"
"""What every token begins with, and no session token and no API key does."""
TOKEN_BYTES = 24
PREFIX_CHARS = 12
"""How much of a token is kept for display: 48 of its 192 bits."""
EXPIRY_DAYS_MAX = 365
ENDED_KEPT_MS = 30 * DAY_MS
"""How long a token is known after its end: so that people see why a program was refused, and how many were made."""
SWEEP_FROM = 1_000

assert EXPIRY_DAYS_MAX * DAY_MS + ENDED_KEPT_MS < TOKENS_KEPT_MS


class TokenRecord(
    Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="format", tag=TOKENS.number
):
    """An access token of an org: made at `created_ms`, in force until `expires_ms`, or revoked before, at `revoked_ms`.

    `hash` is that of its text, `prefix` the text's beginning. `nonce` tells the making of this token from another that
    the same request came to, `fingerprint` that request from another. `signature` is made by `signed`.
    """

    id: str
    org: str
    name: str
    prefix: str
    hash: str
    nonce: str
    fingerprint: str
    created_ms: int
    expires_ms: int
    revoked_ms: int = 0
    signature: str = ""

    @property
    def ends_ms(self) -> int:
        """When it is over: revoked or expired, whichever comes first."""
        return min(self.revoked_ms, self.expires_ms) if self.revoked_ms else self.expires_ms

    def is_in_force(self, now_ms: int) -> bool:
        """Whether it opens anything. A revocation holds at once, also where its writer's clock is ahead of this one."""
        return not self.revoked_ms and self.expires_ms > now_ms

    @property
    def topic_key(self) -> bytes:
        """The key of its record: each making has its own, so that compaction keeps the one that came first."""
        return f"{self.id}:{self.nonce}".encode()


encode_token = msgspec.json.Encoder().encode
decode_token = TOKENS.decoder(TokenRecord)
"""Return the record of a value. Raises NewerFormatError, and msgspec.MsgspecError for what is none."""


def token_text(drawn: bytes) -> str:
    """Return the token of `TOKEN_BYTES` random bytes."""
    return START + base64.urlsafe_b64encode(drawn).decode()


def hash_token(text: str) -> str:
    """Return the SHA-256 of a token in hex: enough for its random bits, and all that is kept of them."""
    return hashlib.sha256(text.encode()).hexdigest()


def signed(record: TokenRecord, secret: str) -> TokenRecord:
    """Return a record with its signature by a secret (HMAC-SHA256, RFC 2104)."""
    return structs.replace(record, signature=_signature(record, secret))


def ended(record: TokenRecord, at_ms: int, secret: str) -> TokenRecord:
    """Return the signed record by which a token is revoked."""
    return signed(structs.replace(record, revoked_ms=at_ms), secret)


def _signature(record: TokenRecord, secret: str) -> str:
    said = b"token-record\0" + encode_token(structs.replace(record, signature=""))
    return hmac.digest(secret.encode(), said, hashlib.sha256).hex()


class TokenBook:
    """What the records so far say. A token is forgotten `ENDED_KEPT_MS` after its end."""

    def __init__(self, secret: str, now_ms: Callable[[], int]) -> None:
        """Start with no record; `now_ms` is the clock, `secret` the one that records have to be signed with."""
        self._secret, self._now_ms = secret, now_ms
        self._orgs: dict[str, dict[str, TokenRecord]] = {}
        self._by_hash: dict[str, TokenRecord] = {}
        self._sweep_at = SWEEP_FROM

    def __len__(self) -> int:
        """Return how many tokens are kept."""
        return len(self._by_hash)

    def take(self, record: TokenRecord) -> bool:
        """Take a record in: they come in the order of the topic. Return whether its signature is good."""
        if not hmac.compare_digest(record.signature, _signature(record, self._secret)):
            return False
        known = self.get(record.org, record.id)
        if known is None or (record.revoked_ms and not known.revoked_ms):
            if self._is_kept(record):
                self._put(record, known)
            else:
                self._drop(record.org, record.id)
        return True

    def forget(self, topic_key: bytes) -> None:
        """Take in that the record of a key was deleted."""
        for record in [each for each in self._by_hash.values() if each.topic_key == topic_key]:
            self._drop(record.org, record.id)

    def of_org(self, org: str) -> list[TokenRecord]:
        """Return an org's tokens, also those that ended in the last 30 days, in the order of the topic."""
        return [record for record in self._orgs.get(org, {}).values() if self._is_kept(record)]

    def in_force_of(self, org: str) -> list[TokenRecord]:
        """Return an org's tokens that are neither expired nor revoked."""
        return [record for record in self.of_org(org) if record.is_in_force(self._now_ms())]

    def get(self, org: str, token_id: str) -> TokenRecord | None:
        """Return an org's token by its id, as `of_org` has it; None where there is none."""
        record = self._orgs.get(org, {}).get(token_id)
        return record if record is not None and self._is_kept(record) else None

    def in_force(self, text: str) -> TokenRecord | None:
        """Return the token that a text is; None for one that is unknown, expired or revoked."""
        hashed = hash_token(text)
        record = self._by_hash.get(hashed)
        if record is None or not hmac.compare_digest(record.hash, hashed):
            return None
        return record if record.is_in_force(self._now_ms()) else None

    def _is_kept(self, record: TokenRecord) -> bool:
        return record.ends_ms + ENDED_KEPT_MS > self._now_ms()

    def _put(self, record: TokenRecord, known: TokenRecord | None) -> None:
        if known is not None:
            del self._by_hash[known.hash]
        self._orgs.setdefault(record.org, {})[record.id] = record
        self._by_hash[record.hash] = record
        if len(self) >= self._sweep_at:
            self._sweep()

    def _drop(self, org: str, token_id: str) -> None:
        """Let go of a token, if it is there."""
        records = self._orgs.get(org, {})
        record = records.pop(token_id, None)
        if record is not None:
            del self._by_hash[record.hash]
        if not records:
            self._orgs.pop(org, None)

    def _sweep(self) -> None:
        for record in [each for each in self._by_hash.values() if not self._is_kept(each)]:
            self._drop(record.org, record.id)
        self._sweep_at = max(SWEEP_FROM, 2 * len(self))
