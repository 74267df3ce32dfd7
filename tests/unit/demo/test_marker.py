"""What the demo remembers: made once, kept, private, and never half written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.demo.marker import FILE, MarkerError, finish, load_or_make
from pipeline.demo.platform import ORGS


def test_the_first_call_decides_and_the_next_ones_remember(tmp_path: Path) -> None:
    made = load_or_make(tmp_path, seed=7, rate=5.0, now_ms=1_000)
    assert load_or_make(tmp_path, seed=8, rate=1.0, now_ms=2_000) == made
    assert (made.seed, made.now_ms, made.done) == (7, 1_000, False)
    assert finish(tmp_path, made).done
    assert load_or_make(tmp_path, seed=8, rate=1.0, now_ms=2_000).done


def test_every_key_has_a_secret_of_its_own_that_nobody_else_may_read(tmp_path: Path) -> None:
    made = load_or_make(tmp_path, seed=1, rate=5.0, now_ms=0)
    keys = {key.key_id: key for org in ORGS for key in org.keys}
    assert made.api_keys.keys() == keys.keys()
    assert len(set(made.api_keys.values())) == len(keys)
    for key_id, secret in made.api_keys.items():
        assert secret.startswith("br-trial-" if keys[key_id].tier == "trial" else "br-")
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_a_damaged_file_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    with pytest.raises(MarkerError, match=FILE):
        load_or_make(tmp_path, seed=1, rate=5.0, now_ms=0)
