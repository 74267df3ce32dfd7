"""What of the copied records names offsets or topic ids of the first cluster, and how it reads on the second. Pure.

Owns: which topics are copied and how, and the translation of records of the state topics.
Called by: `mirror/copier.py`. Next: `mirror/offsets.py`.

Everything else is copied byte for byte, with its key, headers and time stamp. Events, commands and the journal name no
offsets that anybody goes by. What a command names, the end of the catalog and of the promo codes that it was
made with, stays right, as those two topics are copied to the very same offsets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import structs

from pipeline import topics
from pipeline.accounts import verdicts
from pipeline.mail import outbox
from pipeline.mail import protocol as mail
from pipeline.mirror.offsets import OffsetMap
from pipeline.notary import kept
from pipeline.posting import redriving, set_aside, state
from pipeline.posting.protocol import OWN_TOPICS
from pipeline.posting.state import COPY_KEY, META_KEY, encode_meta, read_meta
from pipeline.steps import TopicPlace
from pipeline.webhook import waiting

STATES = (topics.STATE, topics.MAIL_STATE, topics.WEBHOOKS_STATE, topics.REDRIVE_STATE)
"""How far somebody has come, with the offsets of what he has read or written."""
HELD = (
    topics.JOURNAL,
    topics.VERDICTS,
    topics.KEYS,
    topics.ORDERS,
    topics.MAIL,
    topics.WEBHOOKS,
    topics.DEAD_LETTERS,
)
"""What the worker of the partition alone writes, in the transaction of its state: of these nothing may be copied that
is newer than the copied state."""
AHEAD = (
    topics.REQUESTS,
    topics.BILLING,
    topics.MOVED,
    topics.SESSIONS,
    topics.TOKENS,
    topics.CHECKPOINTS_STATE,
)
"""What may be copied further than the state has come: it is read from there."""
LEVEL = (topics.CATALOG, topics.PROMOS, topics.GATEWAYS)
"""Copied to the same offsets."""
NOT_COPIED = (
    topics.REPLIES,
    topics.SINK_STATE,
    topics.VERIFY_STATE,
    topics.NOTARY_STATE,
    topics.BESIDE_JOURNAL,
)
"""Nobody waits for an answer on the second cluster; its sink writes a database of its own from the beginning of the
journal; `metering verify` reads all, once; the notary makes its trees again, of the days whose
checkpoints were copied; the first worker writes again what is kept beside the journal."""

MAPPED = (*topics.INPUTS, topics.MAIL, topics.WEBHOOKS, topics.DEAD_LETTERS)
"""The topics whose offsets somebody keeps."""
NAMED = (*OWN_TOPICS, topics.MAIL, topics.WEBHOOKS)
"""The topics whose ids somebody keeps."""


@dataclass
class Translation:
    """What is needed to translate: offsets by topic and partition, and the second cluster's topic ids by name."""

    topic_ids: Mapping[str, str]
    offsets: dict[TopicPlace, OffsetMap] = field(default_factory=dict)

    def at(self, place: TopicPlace) -> OffsetMap:
        """Return where the records of a partition are; what is added to it is kept."""
        return self.offsets.setdefault(place, OffsetMap())

    def of(self, topic: str, partition: int) -> OffsetMap:
        """Return where the records of a partition are."""
        return self.at(TopicPlace(topic, partition))


Translated = tuple[bytes | None, bytes | None]
"""Key and value of a record."""


def translated(
    place: TopicPlace, key: bytes | None, value: bytes | None, by: Translation
) -> Translated | None:
    """Return a record as it reads on the second cluster; None where it is not copied.

    Offsets that it names must have been copied before. Raises NewerFormatError where a newer release wrote it.
    """
    if _stays(place.topic, key):
        return None
    match place.topic, key:
        case topics.STATE, bytes():
            return _state(place.partition, key, value, by)
        case topics.REDRIVE_STATE, bytes():
            return _of_the_redriver(key, value, by)
        case topics.MAIL_STATE, mail.OUTBOX_KEY if value is not None:
            return key, _outbox(place.partition, value, by)
        case topics.WEBHOOKS_STATE, waiting.PROGRESS_KEY if value is not None:
            return key, _webhook_progress(place.partition, value, by)
    return key, value


def _stays(topic: str, key: bytes | None) -> bool:
    """Whether a record means something on the first cluster only, or nothing at all."""
    match topic, key:
        case topics.VERDICTS, verdicts.PROGRESS_KEY:
            # By offsets of the first cluster: the next owner tells it anew with its first unit.
            return True
        case topics.CHECKPOINTS_STATE, bytes():
            # An index names offsets, and is made again. Checkpoints go along: they were signed once, for good.
            return key == topics.OWNER_KEY or key.startswith(kept.INDEX)
        case (
            topics.STATE | topics.MAIL_STATE | topics.WEBHOOKS_STATE | topics.REDRIVE_STATE,
            topics.OWNER_KEY,
        ):
            return True
    return False


def read_up_to(topic: str, key: bytes | None, value: bytes | None) -> Mapping[str, int]:
    """Return up to which offset of the first cluster topics were read, by a state record: nobody goes back before that."""
    match topic, key, value:
        case topics.STATE, state.META_KEY, bytes():
            return state.next_offsets(value)
        case topics.MAIL_STATE, mail.OUTBOX_KEY, bytes():
            return {topics.MAIL: outbox.decode(value).next_offset}
        case topics.WEBHOOKS_STATE, waiting.PROGRESS_KEY, bytes():
            return {topics.WEBHOOKS: waiting.decode_progress(value).next_offset}
    return {}


def _of_the_redriver(key: bytes, value: bytes | None, by: Translation) -> Translated | None:
    """Return from where letters are read, or the mark of one that was redriven; None where that letter is gone."""
    start = redriving.start_of(key)
    if start is not None:
        next_offset = by.of(topics.DEAD_LETTERS, start[0]).next_offset(start[1])
        return redriving.start_key(start[0], next_offset), value
    partition, _, offset = key.decode().partition("-")
    at = by.of(topics.DEAD_LETTERS, int(partition)).exactly(int(offset))
    return None if at is None else (f"{partition}-{at}".encode(), value)


def _outbox(partition: int, value: bytes, by: Translation) -> bytes:
    """Return what the mailer has still to send, and from where it reads on."""
    kept = outbox.decode(value)
    next_offset = by.of(topics.MAIL, partition).next_offset(kept.next_offset)
    return outbox.encode(
        structs.replace(kept, next_offset=next_offset, topic_id=by.topic_ids.get(topics.MAIL))
    )


def _webhook_progress(partition: int, value: bytes, by: Translation) -> bytes:
    """Return from where the sender of webhooks reads on. What waits names no offset, and is copied as it is."""
    progress = waiting.decode_progress(value)
    next_offset = by.of(topics.WEBHOOKS, partition).next_offset(progress.next_offset)
    return waiting.encode_progress(
        structs.replace(progress, next_offset=next_offset, topic_id=by.topic_ids.get(topics.WEBHOOKS))
    )


def _state(partition: int, key: bytes, value: bytes | None, by: Translation) -> Translated | None:
    """Return a record of an account topic's partition as `translated` does."""
    if key == COPY_KEY:
        return None
    if key == META_KEY and value is not None:
        meta = read_meta(value)
        meta.offsets = {
            name: by.of(name, partition).next_offset(offset) for name, offset in meta.offsets.items()
        }
        meta.topic_ids = {name: by.topic_ids[name] for name in OWN_TOPICS if name in by.topic_ids}
        return key, encode_meta(meta)
    if key[:1] == set_aside.MARK:
        topic, offset = set_aside.place_of(key)
        at = by.of(topic, partition).exactly(offset)
        return None if at is None else (set_aside.key_of(topic, at), value)
    return key, value
