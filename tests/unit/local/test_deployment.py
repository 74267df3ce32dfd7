"""A data directory: claimed by one, its secrets kept, and who runs on it told to others."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pipeline.local import deployment
from pipeline.local.deployment import Deployment
from pipeline.local.errors import LocalError
from pipeline.settings import Settings

# Claims a directory, announces itself, says so, and waits to be killed.
_HOLDER = """
import asyncio, os, sys, time
from pathlib import Path
from pipeline.local import deployment
from pipeline.local.deployment import Deployment
async def hold(home):
    async with deployment.claimed(home):
        deployment.announce(home, Deployment(os.getpid(), "kafka://k:1", "chdb:///c", "http://h:1", "http://h:2",
                                             "metering", 4, "s", "t", "c"))
        print("held", flush=True)
        time.sleep(600)
asyncio.run(hold(Path(sys.argv[1])))
"""


def _at(pid: int) -> Deployment:
    return Deployment(
        pid=pid,
        kafka_url="kafka://127.0.0.1:9092",
        clickhouse_url="chdb:///data/clickhouse",
        http_url="http://127.0.0.1:8000",
        worker_url="http://127.0.0.1:8001",
        deployment="metering",
        partitions=4,
        session_secret="s3cret-session",
        operator_token="s3cret-operator",
        command_key="s3cret-command-key",
    )


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    first = deployment.secrets_of(tmp_path)
    assert deployment.secrets_of(tmp_path) == first
    assert first.session_secret != first.operator_token
    assert _mode(tmp_path / "secrets.json") == 0o600
    assert first.session_secret not in repr(first)
    assert first.command_key not in repr(first)


def test_a_secret_that_an_older_release_did_not_know_is_made_and_kept(tmp_path: Path) -> None:
    older = {"session_secret": "s" * 43, "operator_token": "o" * 43}
    (tmp_path / "secrets.json").write_bytes(msgspec.json.encode(older))
    first = deployment.secrets_of(tmp_path)
    assert (first.session_secret, first.operator_token) == ("s" * 43, "o" * 43)
    assert len(first.command_key) >= 32
    assert deployment.secrets_of(tmp_path) == first
    assert _mode(tmp_path / "secrets.json") == 0o600


def test_a_directory_keeps_its_name_and_no_other_has_it(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    name = deployment.instance_of(tmp_path)
    assert deployment.instance_of(tmp_path) == name != deployment.instance_of(other)
    assert Settings(instance=name).instance == name


def test_damaged_secrets_are_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{")
    with pytest.raises(LocalError, match=r"secrets\.json is damaged"):
        deployment.secrets_of(tmp_path)


async def test_an_announced_deployment_is_seen_until_it_is_withdrawn(tmp_path: Path) -> None:
    at = _at(os.getpid())
    async with deployment.claimed(tmp_path):
        assert deployment.running(tmp_path) is None
        deployment.announce(tmp_path, at)
        assert _mode(tmp_path / "run.json") == 0o600
        assert deployment.running(tmp_path) == at
        deployment.withdraw(tmp_path)
        assert deployment.running(tmp_path) is None
    assert "s3cret" not in repr(at)


async def test_a_directory_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    async with deployment.claimed(tmp_path):
        assert _mode(tmp_path) == 0o700


async def test_what_a_killed_one_left_behind_is_not_running(tmp_path: Path) -> None:
    async with deployment.claimed(tmp_path):
        deployment.announce(tmp_path, _at(os.getpid()))
    assert (tmp_path / "run.json").exists()
    assert deployment.running(tmp_path) is None


async def test_a_directory_is_claimed_by_one_and_free_again_once_that_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    seen = deployment.running(tmp_path)
    assert seen is not None
    assert seen.pid == holder.pid
    with pytest.raises(LocalError, match=f"process {holder.pid} runs on it"):
        async with deployment.claimed(tmp_path):
            pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert deployment.running(tmp_path) is None
    async with deployment.claimed(tmp_path):
        pass


async def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="cannot be used"):
        async with deployment.claimed(tmp_path / "file" / "dir"):
            pass
