"""Checkpoints: what a day's books were, signed, each over the one before; and hand-overs from one key to the next. Pure.

Owns: the lines of both, what is signed of them, and the notary's keys.
Called by: `notary/kept.py` makes them, `notary/check.py` checks them.

Signatures are Ed25519 (RFC 8032), which is deterministic: the same journal and key make the same bytes, whoever signs. A
line is JSON with the fields in the order of its struct and no spaces; binary values are lower-case hex. What is signed is a
word that names the purpose, a line feed, and the line up to its first signature.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from pipeline import ist

FIRST_PREVIOUS = "00" * 32
"""Stands for the checkpoint before the first."""
CHECKPOINT_WORD, HANDOVER_WORD = b"bharatrouter-checkpoint\n", b"bharatrouter-handover\n"
KEY_WORD = b"bharatrouter-notary-key\n"
KEYS_MAX = 2

_encode = msgspec.json.Encoder().encode


class NotaryKeyError(Exception):
    """The notary's keys cannot sign the next day. The message says what to set."""


class Handover(Struct, frozen=True, forbid_unknown_fields=True):
    """The change from one key to the next, said by both: from `day` on, an IST date, the new one signs."""

    deployment: str
    day: str
    old_key: str
    new_key: str
    old_signature: str
    new_signature: str


class SignedCheckpoint(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="checkpoint"):
    """What a closed IST day's books were: the root over all orgs, and the hash of the line of the day before.

    `handover` is there on the first day that a new key signs.
    """

    deployment: str
    day: str
    root: str
    previous: str
    key: str
    handover: Handover | None
    signature: str


class NotaryKey:
    """A private key, made of a secret text: the SHA-256 of a word and the text is the seed of Ed25519."""

    def __init__(self, secret: str) -> None:
        """Take the secret; it is never shown."""
        self.seed = sha256(KEY_WORD + secret.encode()).digest()
        self._private = Ed25519PrivateKey.from_private_bytes(self.seed)
        self.public = self._private.public_key().public_bytes_raw().hex()

    def sign(self, word: bytes, text: bytes) -> str:
        """Return the signature of a text that is signed for a purpose."""
        return self._private.sign(word + text).hex()


class NotaryKeys:
    """The key that signs, and while it is renewed the one before it."""

    def __init__(self, keys: Sequence[NotaryKey]) -> None:
        """Take one key or two, the newest first."""
        self.newest, self.others = keys[0], tuple(keys[1:])

    @classmethod
    def parse(cls, text: str) -> NotaryKeys:
        """Return the keys of a setting: one secret, or two after a comma, the newest first. Raises ValueError."""
        secrets = [each.strip() for each in text.split(",")]
        if not all(secrets) or len(secrets) > KEYS_MAX:
            raise ValueError("one secret, or two after a comma while it is renewed: the new one first")
        return cls([NotaryKey(secret) for secret in secrets])

    def handover(self, deployment: str, day: int, last_key: str | None) -> Handover | None:
        """Return the hand-over from the key that signed last; None where there is nothing to hand over.

        Raises NotaryKeyError where that key is not here: without its word, nobody could know the new one.
        """
        if last_key is None or last_key == self.newest.public:
            return None
        for old in self.others:
            if old.public == last_key:
                date = ist.date_of(day).isoformat()
                unsigned = Handover(deployment, date, old.public, self.newest.public, "", "")
                text = handover_text(unsigned)
                return msgspec.structs.replace(
                    unsigned,
                    old_signature=old.sign(HANDOVER_WORD, text),
                    new_signature=self.newest.sign(HANDOVER_WORD, text),
                )
        raise NotaryKeyError(
            f"the last checkpoint was signed with the key {last_key}, which METERING_NOTARY_KEY does not have: set it to the "
            "new secret, a comma, and the old one, until a day was signed"
        )


def signed(
    keys: NotaryKeys, deployment: str, day: int, root: bytes, last: SignedCheckpoint | None
) -> SignedCheckpoint:
    """Return the checkpoint of a day that follows `last`, None for the first. Raises NotaryKeyError."""
    unsigned = SignedCheckpoint(
        deployment,
        ist.date_of(day).isoformat(),
        root.hex(),
        FIRST_PREVIOUS if last is None else line_hash(last),
        keys.newest.public,
        keys.handover(deployment, day, None if last is None else last.key),
        "",
    )
    signature = keys.newest.sign(CHECKPOINT_WORD, checkpoint_text(unsigned))
    return msgspec.structs.replace(unsigned, signature=signature)


def line_of(checkpoint: SignedCheckpoint) -> bytes:
    """Return a checkpoint as it is published and hashed."""
    return _encode(checkpoint)


def line_hash(checkpoint: SignedCheckpoint) -> str:
    """Return the hash that the next checkpoint has of this one."""
    return sha256(line_of(checkpoint)).hexdigest()


def checkpoint_text(checkpoint: SignedCheckpoint) -> bytes:
    """Return what is signed of a checkpoint: its line up to the signature, the last field."""
    return _encode(checkpoint).rpartition(b',"signature":')[0]


def handover_text(handover: Handover) -> bytes:
    """Return what is signed of a hand-over: its JSON up to the first of the two signatures."""
    return _encode(handover).partition(b',"old_signature":')[0]


def is_signed(checkpoint: SignedCheckpoint) -> bool:
    """Whether a checkpoint has the signature of the key that it names."""
    return _verified(checkpoint.key, checkpoint.signature, CHECKPOINT_WORD + checkpoint_text(checkpoint))


def is_handed_over(handover: Handover) -> bool:
    """Whether both keys have signed a hand-over."""
    text = HANDOVER_WORD + handover_text(handover)
    return _verified(handover.old_key, handover.old_signature, text) and _verified(
        handover.new_key, handover.new_signature, text
    )


def _verified(key: str, signature: str, text: bytes) -> bool:
    try:
        raw_key, raw_signature = bytes.fromhex(key), bytes.fromhex(signature)
        Ed25519PublicKey.from_public_bytes(raw_key).verify(raw_signature, text)
    except (InvalidSignature, ValueError):
        return False
    # Upper-case hex digits would be the same values in other bytes.
    return raw_key.hex() == key and raw_signature.hex() == signature
