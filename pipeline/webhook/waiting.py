"""What is kept of one partition's webhooks: which record is read next, and which messages wait for another try.

Owns: the records of `metering.state.webhooks`, and when a message is tried again. Pure: `webhook/protocol.py` has
changes committed.
Called by: `webhook/protocol.py`; `mirror/records.py` translates the offset.

Each message that waits is a record of its own, so that a receiver that is away costs each commit a record and not all
that wait.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from pipeline.accounts.notices import WebhookMessage
from pipeline.formats import WEBHOOK_PROGRESS
from pipeline.steps import Output

AGE_MAX_MS = 24 * 3_600_000
"""How long a message is tried."""
BACK_OFF_MAX_MS = 2 * 3_600_000
WAITING_MAX = 10_000
"""How many messages of a partition wait at most. Then nothing more is read until there is room."""

PROGRESS_KEY = b"progress"
_WAITING = b"w"
"""What the key of a waiting message begins with; then comes its id."""


class WebhookProgress(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="format", tag=WEBHOOK_PROGRESS.number
):
    """The offset of the next message to read, and Kafka's id of the topic it is of, None where it has none."""

    next_offset: int = 0
    topic_id: str | None = None


class WaitingMessage(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="format", tag=WEBHOOK_PROGRESS.number
):
    """A message that was not taken: when it came in, how often it was tried, and when it is due again."""

    message: WebhookMessage
    came_ms: int
    tries: int
    due_ms: int


encode_progress = msgspec.json.Encoder().encode
encode_waiting = msgspec.json.Encoder().encode
decode_progress = WEBHOOK_PROGRESS.decoder(WebhookProgress)
decode_waiting = WEBHOOK_PROGRESS.decoder(WaitingMessage)


def is_waiting(key: bytes) -> bool:
    """Whether a record of that key is a message that waits."""
    return key.startswith(_WAITING)


def restored(records: Mapping[bytes, bytes]) -> tuple[WebhookProgress, dict[str, WaitingMessage]]:
    """Return what the newest record of each key says: the progress, and the messages that wait by their ids.

    Raises NewerFormatError where a newer release wrote one, msgspec.MsgspecError where one is none.
    """
    progress = records.get(PROGRESS_KEY)
    waiting = [decode_waiting(value) for key, value in records.items() if is_waiting(key)]
    return (
        WebhookProgress() if progress is None else decode_progress(progress),
        {item.message.id: item for item in waiting},
    )


def kept(item: WaitingMessage) -> Output:
    """Return the record of a message that waits."""
    return Output(_key(item.message.id), encode_waiting(item))


def gone(message_id: str) -> Output:
    """Return the record by which a message waits no more."""
    return Output(_key(message_id), None)


def is_too_old(came_ms: int, now_ms: int) -> bool:
    """Return whether a message that came in at `came_ms` is not tried any more."""
    return now_ms - came_ms >= AGE_MAX_MS


def again(message: WebhookMessage, came_ms: int, tries: int, now_ms: int, first_ms: int) -> WaitingMessage:
    """Return a message that waits after its `tries`-th try: `first_ms` at first, then twice as long each time."""
    back_off_ms = min(first_ms * 2 ** min(tries - 1, 20), BACK_OFF_MAX_MS)
    return WaitingMessage(message, came_ms, tries, now_ms + back_off_ms)


def _key(message_id: str) -> bytes:
    return _WAITING + message_id.encode()
