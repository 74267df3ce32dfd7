"""Who a key is: the current name and org of every key, in memory.

Owns: the newest version of each key's record.
Called by: `api/server/main.py` feeds it from `metering.keys`; the answers look names up in it.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterator, Mapping

from pipeline.accounts.keys import KeyRecord, decode_key, hash_key


class KeyDirectory(Mapping[str, tuple[str, str]]):
    """key_id -> (org, name). Ids are drawn at random where keys are made, so no two orgs share one."""

    def __init__(self) -> None:
        """Start empty."""
        self._keys: dict[str, KeyRecord] = {}

    def put(self, _key: bytes, value: bytes) -> None:
        """Take in a record of `metering.keys`; an older version than the known one changes nothing.

        Raises msgspec.MsgspecError for what is no key.
        """
        key = decode_key(value)
        known = self._keys.get(key.key_id)
        if known is None or known.version < key.version:
            self._keys[key.key_id] = key

    def delete(self, key: bytes) -> None:
        """Forget a key whose record was deleted."""
        self._keys.pop(key.decode(), None)

    def __getitem__(self, key_id: str) -> tuple[str, str]:
        """Return a key's org and name."""
        key = self._keys[key_id]
        return key.org, key.name

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids."""
        return iter(self._keys)

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(self._keys)

    def is_key(self, key_id: str, api_key: str) -> bool:
        """Whether an API key is the one that is registered under an id."""
        key = self._keys.get(key_id)
        return key is not None and hmac.compare_digest(key.hash, hash_key(api_key))

    async def reached(self, key_id: str, version: int, limit_s: float = 2.0) -> None:
        """Return once a key's version is known here. Raises TimeoutError."""
        async with asyncio.timeout(limit_s):
            while (key := self._keys.get(key_id)) is None or key.version < version:
                await asyncio.sleep(0.005)
