"""The directory of keys: the newest version counts, and a key whose record was deleted is gone."""

from __future__ import annotations

from pipeline.accounts.keys import encode_key, hash_key
from pipeline.accounts.model import Key
from pipeline.api.services.key_directory import KeyDirectory


def test_the_newest_version_counts_until_the_key_is_deleted() -> None:
    directory = KeyDirectory()
    for name, version in (("first", 1), ("third", 3), ("second", 2)):
        directory.put(b"k1", encode_key("org", Key("k1", name, "p", "h", "standard", 0, version=version)))
    directory.put(b"k2", encode_key("org", Key("k2", "other", "p", "h", "standard", 0)))
    assert dict(directory) == {"k1": ("org", "third"), "k2": ("org", "other")}
    directory.delete(b"k1")
    directory.delete(b"never there")
    assert dict(directory) == {"k2": ("org", "other")}


def test_only_the_key_that_is_registered_under_an_id_is_that_key() -> None:
    directory = KeyDirectory()
    directory.put(b"k1", encode_key("org", Key("k1", "first", "p", hash_key("br-right"), "standard", 0)))
    assert directory.is_key("k1", "br-right")
    assert not directory.is_key("k1", "br-wrong") and not directory.is_key("k2", "br-right")
