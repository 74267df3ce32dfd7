"""How long a broker may hold a consumer's fetch: shortly while records come, longer while none do.

Owns: both times, and when a consumer is at rest.
Called by: `kafka/reader.py`. Next: aiokafka, which puts the time into each fetch.

Whatever is not part of the fetch under way waits for its end: a partition whose batch is done, one that was just opened, a
question to the same broker. So the time is short while there is work. A record that comes ends a fetch of its partition at
once, however long that may be held: while every partition is part of the fetch, a longer time delays nothing, and it
spares broker and reader the greatest part of what they do where little happens.
"""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer

BUSY_MS = 20
"""A partition whose batch is done waits for the fetch under way before it is fetched again: up to this."""
AT_REST_MS = 200
"""What is opened or asked after a rest waits for the fetch under way: up to this."""
REST_AFTER_MS = 100
"""How long nothing must have come before a consumer is at rest."""
POLL_MS = 500
"""How long records are waited for before whoever asked for them is told that there are none."""


class FetchWait:
    """Sets how long the fetches of one consumer are held."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        """Prepare for a consumer, which was made with `fetch_max_wait_ms=BUSY_MS`."""
        self._consumer = consumer
        self._is_found = False

    @property
    def poll_ms(self) -> int:
        """How long records are to be waited for now."""
        return REST_AFTER_MS if self._is_found else POLL_MS

    def note(self, *, is_found: bool) -> None:
        """Note whether there was anything to read. To be called whenever the consumer was asked for records."""
        self._is_found = is_found
        # What is paused has a batch in hand, or is being opened: it is to be fetched again soon.
        is_busy = is_found or bool(self._consumer.paused())
        # aiokafka has no other way in.
        self._consumer._fetcher._fetch_max_wait_ms = BUSY_MS if is_busy else AT_REST_MS  # noqa: SLF001
