"""What the demo remembers in its data directory: which platform is in it, its API keys, and whether it is whole.

Owns: `demo.json`, written whole or not at all, readable by its owner alone.
Called by: `demo/main.py` and `demo/seeding.py`.

It is written before the first command is sent. Whatever a kill leaves half done is done again from the
same seed, instant, rate and keys, so commands keep their ids and events their numbers.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from pipeline.demo.platform import ORGS

FILE = "demo.json"
KEY_BYTES = 24
"""192 random bits."""
_RUN_BYTES = 8


class MarkerError(Exception):
    """The file cannot be read."""


class Marker(Struct, frozen=True):
    """One demo platform. `now_ms` is when its history ends; `api_keys` are secrets by key id."""

    run: str
    seed: int
    rate: float
    now_ms: int
    api_keys: dict[str, str]
    done: bool = False


def load_or_make(data_dir: Path, seed: int, rate: float, now_ms: int) -> Marker:
    """Return the directory's platform; where there is none yet, a new one, kept. Raises MarkerError, OSError."""
    path = data_dir / FILE
    if path.exists():
        try:
            return msgspec.json.decode(path.read_bytes(), type=Marker)
        except msgspec.MsgspecError as error:
            raise MarkerError(f"{path} is damaged: {error}") from error
    keys = [key for org in ORGS for key in org.keys]
    marker = Marker(
        run=secrets.token_hex(_RUN_BYTES),
        seed=seed,
        rate=rate,
        now_ms=now_ms,
        api_keys={
            key.key_id: ("br-trial-" if key.tier == "trial" else "br-") + secrets.token_urlsafe(KEY_BYTES)
            for key in keys
        },
    )
    _write(path, marker)
    return marker


def finish(data_dir: Path, marker: Marker) -> Marker:
    """Note that everything is in, and return the marker that says so. Raises OSError."""
    done = structs.replace(marker, done=True)
    _write(data_dir / FILE, done)
    return done


def _write(path: Path, marker: Marker) -> None:
    beside = path.with_suffix(".new")
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, msgspec.json.encode(marker))
        os.fsync(file)
    finally:
        os.close(file)
    beside.replace(path)
