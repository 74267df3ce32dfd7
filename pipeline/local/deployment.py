"""The data directory of a local deployment: who runs on it, its secrets, and where it can be reached.

Owns: `lock`, `secrets.json`, `instance` and `run.json` in the data directory.
Called by: `local/supervisor.py`, which claims the directory, and `cli/context.py`, which looks who runs on it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from pipeline.connection import KafkaConnection, KafkaSecurity
from pipeline.local import synced
from pipeline.local.errors import LocalError

_T = TypeVar("_T")

_LOCK = "lock"
_SECRETS = "secrets.json"
_INSTANCE = "instance"
_RUN = "run.json"

_OWNER_ONLY = 0o700
_SECRET_BYTES = 32
_INSTANCE_BYTES = 6
_CLAIM_SECONDS_MAX = 10.0
_CLAIM_AGAIN_SECONDS = 0.05


def _random() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)


@dataclass(frozen=True)
class Secrets:
    """What a local deployment makes up for itself, once. Never printed."""

    session_secret: str = field(default_factory=_random, repr=False)
    operator_token: str = field(default_factory=_random, repr=False)
    command_key: str = field(default_factory=_random, repr=False)
    kafka_password: str = field(default_factory=_random, repr=False)
    notary_key: str = field(default_factory=_random, repr=False)


@dataclass(frozen=True)
class Deployment:
    """A running `up`: where its parts are reached, and what opens them."""

    pid: int
    kafka_url: str
    clickhouse_url: str
    http_url: str
    worker_url: str
    deployment: str
    partitions: int
    session_secret: str = field(repr=False)
    operator_token: str = field(repr=False)
    command_key: str = field(repr=False)
    kafka_security: KafkaSecurity = field(default_factory=KafkaSecurity)
    gateway_kafka_url: str = ""
    """Where gateways find the embedded broker, and need no password; empty where it is another broker or an earlier release."""
    notary_key: str = field(default="", repr=False)
    server_status_url: str = ""
    """Where the server says how it is; empty where an `up` of an earlier release runs."""

    @property
    def kafka(self) -> KafkaConnection:
        """How the product's own processes reach the brokers."""
        return KafkaConnection(self.kafka_url.removeprefix("kafka://"), self.kafka_security)


@asynccontextmanager
async def claimed(data_dir: Path) -> AsyncIterator[int]:
    """Hold the data directory; yields the lock's file descriptor, which children may inherit.

    The directory stays taken until the last process that holds the descriptor has ended, so nobody starts
    on it beside one that is still dying. Nobody but its owner may enter it from then on. Raises LocalError where
    another `up` has it, or where it is another user's.
    """
    try:
        data_dir.mkdir(mode=_OWNER_ONLY, parents=True, exist_ok=True)
        # It may have been there before, open to others: everything in it is as private as it is.
        data_dir.chmod(_OWNER_ONLY)
        lock = os.open(data_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LocalError(f"the data directory {data_dir} cannot be used: {error.strerror}") from error
    try:
        await _take(lock, data_dir)
        _write_holder(lock, str(os.getpid()))
        yield lock
        _write_holder(lock, "")
    finally:
        os.close(lock)


def running(data_dir: Path) -> Deployment | None:
    """Return the `up` that runs on this directory and is ready, or None. Raises LocalError on a damaged file."""
    try:
        content = (data_dir / _RUN).read_bytes()
        lock = os.open(data_dir / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LocalError(f"{data_dir} cannot be read: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        deployment = _decode(content, Deployment, data_dir / _RUN)
        return deployment if _lives(deployment.pid) else None
    finally:
        os.close(lock)
    # Nobody holds it: the file is what a killed one left behind.
    return None


def announce(data_dir: Path, deployment: Deployment) -> None:
    """Tell other commands that this deployment is ready."""
    _write_private(data_dir / _RUN, msgspec.json.encode(deployment))


def withdraw(data_dir: Path) -> None:
    """Take the announcement back. Safe to repeat."""
    (data_dir / _RUN).unlink(missing_ok=True)


def secrets_of(data_dir: Path) -> Secrets:
    """Return the directory's secrets; those it has not yet are made up and kept. Raises LocalError on a damaged file."""
    path = data_dir / _SECRETS
    before = path.read_bytes() if path.exists() else b"{}"
    known = _decode(before, Secrets, path)
    now = msgspec.json.encode(known)
    if now != before:
        _write_private(path, now)
    return known


def instance_of(data_dir: Path) -> str:
    """Return the directory's name in consumer groups, made up at the first call: no other has it."""
    path = data_dir / _INSTANCE
    if not path.exists():
        _write_private(path, f"up-{secrets.token_hex(_INSTANCE_BYTES)}".encode())
    return path.read_text(encoding="ascii")


async def _take(lock: int, data_dir: Path) -> None:
    clock = asyncio.get_running_loop().time
    until = clock() + _CLAIM_SECONDS_MAX
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(lock)
            if holder is not None and _lives(holder):
                raise LocalError(f"{data_dir} is in use: process {holder} runs on it") from None
            # Its supervisor is gone and its children are ending, or someone just looks who runs here.
            if clock() > until:
                raise LocalError(f"{data_dir} is in use by a process that does not end") from None
            await asyncio.sleep(_CLAIM_AGAIN_SECONDS)
        else:
            return


def _holder(lock: int) -> int | None:
    written = os.pread(lock, 32, 0).strip()
    return int(written) if written.isdigit() else None


def _write_holder(lock: int, holder: str) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, holder.encode(), 0)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _decode(content: bytes, kind: type[_T], path: Path) -> _T:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        raise LocalError(f"{path} is damaged: {error}") from error


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all; once this returns, a power cut does not take it."""
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, content)
        os.fsync(file)
    finally:
        os.close(file)
    beside.replace(path)
    synced.directory(path.parent)
