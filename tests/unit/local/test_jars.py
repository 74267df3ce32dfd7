"""The pinned jars: read, checked, and never used when one is not whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipeline.local import jars
from pipeline.local.errors import LocalError
from pipeline.local.jars import Jar


def _jar(content: bytes) -> Jar:
    return Jar("org.example", "thing", "1.0", hashlib.sha256(content).hexdigest())


def test_the_list_pins_the_broker_and_every_line_has_a_hash() -> None:
    pinned = jars.pinned()
    assert "kafka_2.13" in {jar.artifact for jar in pinned}
    assert all(len(jar.sha256) == 64 for jar in pinned)
    assert len({jar.filename for jar in pinned}) == len(pinned)


def test_a_line_that_pins_nothing_is_an_error(tmp_path: Path) -> None:
    listing = tmp_path / "jars.txt"
    listing.write_text("org.example:thing:1.0\n")
    with pytest.raises(LocalError, match=r"org\.example:thing:1\.0"):
        jars.pinned(listing)


def test_a_jar_is_missing_until_its_bytes_are_the_pinned_ones(tmp_path: Path) -> None:
    jar = _jar(b"whole")
    assert jars.missing([jar], tmp_path) == [jar]
    (tmp_path / jar.filename).write_bytes(b"who")
    assert jars.missing([jar], tmp_path) == [jar]
    (tmp_path / jar.filename).write_bytes(b"whole")
    assert jars.missing([jar], tmp_path) == []
