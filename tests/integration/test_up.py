"""`metering up` as a process: started, killed, stopped, its parts killed under it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from aiokafka import TopicPartition

from pipeline import topics
from pipeline.kafka.clients import producer, started_consumer
from pipeline.local import deployment, ports
from pipeline.local.deployment import Deployment
from tests.support.product import up_with_stand_ins

_PROGRAM = Path(up_with_stand_ins.__file__)
_SERVER = """server=
import http.server, os
class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'{}')
    def log_message(self, *words): pass
http.server.HTTPServer(('127.0.0.1', int(os.environ['METERING_PORT'])), Healthy).serve_forever()
"""
_WORKER = "worker=import time; time.sleep(600)"
_HEADSTRONG = """worker=
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('headstrong', flush=True)
time.sleep(600)
"""


class Up:
    """A run of the supervisor in a process of its own."""

    def __init__(self, home: Path, *children: str, kafka_url: str | None = None) -> None:
        self.home = home
        self.log = home.with_suffix(".log")
        environment = {**os.environ, **({"METERING_KAFKA_URL": kafka_url} if kafka_url else {})}
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                [sys.executable, str(_PROGRAM), str(home), "0", *children],
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )

    def said(self) -> str:
        """Return what it has said so far."""
        return self.log.read_text()

    def ready(self) -> Deployment:
        """Wait until it is ready and return where it is."""
        eventually(lambda: deployment.running(self.home) is not None or self.popen.poll() is not None, 90)
        at = deployment.running(self.home)
        assert at is not None, self.said()
        return at

    def processes(self) -> dict[str, int]:
        """Return its children by the kind of program: their process ids."""
        found = {}
        for line in _ps("--ppid", str(self.popen.pid)):
            pid, _, command = line.partition(" ")
            kind = "broker" if "/bin/java " in command else "server" if "http.server" in command else "worker"
            found[kind] = int(pid)
        return found

    def end(self, number: signal.Signals, seconds_max: float = 30) -> int:
        """Send a signal and return the exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(seconds_max)


def _ps(*selection: str) -> list[str]:
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", *selection], capture_output=True, text=True, check=False
    ).stdout
    return [line.strip() for line in listed.splitlines()]


def eventually(holds: Callable[[], bool], seconds_max: float) -> None:
    """Return as soon as something holds; fail where it does not within the bound."""
    until = time.monotonic() + seconds_max
    while not holds():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)


def lives(pid: int) -> bool:
    """Return whether a process runs; one that ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Start an `up` on a data directory; what still runs at the end is killed."""
    started: list[Up] = []

    def one(*children: str, home: str = "data", kafka_url: str | None = None) -> Up:
        started.append(Up(tmp_path / home, *children, kafka_url=kafka_url))
        return started[-1]

    yield one
    for up in started:
        if up.popen.poll() is None:
            up.popen.kill()
        up.popen.wait()
        assert up.popen.stdout is not None
        up.popen.stdout.close()


async def _write(at: Deployment, value: bytes) -> None:
    async with producer(at.kafka) as writer:
        await writer.send_and_wait(topics.JOURNAL, value, partition=0)


async def _first(at: Deployment) -> bytes:
    place = TopicPartition(topics.JOURNAL, 0)
    async with started_consumer(at.kafka) as consumer:
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        record = await asyncio.wait_for(consumer.getone(), 20)
    value: bytes = record.value
    return value


def test_no_process_outlives_a_kill_and_the_next_up_goes_on(start: Callable[..., Up]) -> None:
    first = start(_SERVER, _WORKER)
    at = first.ready()
    asyncio.run(_write(at, b"kept"))
    assert httpx2.get(f"{at.http_url}/healthz", trust_env=False, verify=False, timeout=20).status_code == 200
    children = first.processes()
    assert set(children) == {"broker", "server", "worker"}

    first.end(signal.SIGKILL)
    eventually(lambda: not any(lives(pid) for pid in children.values()), 10)
    assert deployment.running(first.home) is None

    second = start(_SERVER, _WORKER)
    again = second.ready()
    assert asyncio.run(_first(again)) == b"kept"
    assert (again.session_secret, again.operator_token) == (at.session_secret, at.operator_token)

    children = second.processes()
    assert second.end(signal.SIGINT) == 0
    assert not any(lives(pid) for pid in children.values())
    assert not (second.home / "run.json").exists()
    assert second.popen.stdout is not None
    assert second.popen.stdout.read() == b""


def test_one_up_a_directory(start: Callable[..., Up]) -> None:
    first = start(_SERVER)
    first.ready()
    second = start(_SERVER)
    second.log = first.log
    assert second.popen.wait(20) == 1
    assert f"is in use: process {first.popen.pid} runs on it" in second.said()
    assert first.popen.poll() is None


def test_parts_that_die_are_started_again(start: Callable[..., Up]) -> None:
    up = start(_SERVER, _WORKER)
    at = up.ready()
    before = up.processes()
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: set(up.processes()) == set(before), 60)
    eventually(lambda: _answers(at), 30)
    eventually(lambda: _listens(at.gateway_kafka_url) and _listens(at.kafka_url), 60)
    asyncio.run(_write(at, b"again"))
    assert not set(up.processes().values()) & set(before.values())
    assert "broker ended (signal SIGKILL); starting it again" in up.said()
    assert "worker ended (signal SIGKILL); starting it again" in up.said()
    assert up.end(signal.SIGTERM) == 0


def _listens(url: str) -> bool:
    return not ports.is_free(int(url.rpartition(":")[2]))


def _answers(at: Deployment) -> bool:
    try:
        return (
            httpx2.get(f"{at.http_url}/healthz", trust_env=False, verify=False, timeout=20).status_code == 200
        )
    except httpx2.HTTPError:
        return False


def test_a_part_that_keeps_dying_ends_it(start: Callable[..., Up], kafka_servers: str) -> None:
    up = start(_SERVER, "worker=raise SystemExit(3)", kafka_url=f"kafka://{kafka_servers}")
    assert up.popen.wait(60) == 1
    assert up.said().count("worker ended (exit code 3); starting it again") == 5
    assert "worker ended (exit code 3); started again 5 times within a minute, now giving up" in up.said()
    assert not (up.home / "kafka").exists()
    assert deployment.running(up.home) is None


def test_a_child_that_does_not_listen_is_stopped_in_time(
    start: Callable[..., Up], kafka_servers: str
) -> None:
    up = start(_SERVER, _HEADSTRONG, kafka_url=f"kafka://{kafka_servers}")
    up.ready()
    eventually(lambda: "headstrong" in up.said(), 10)
    assert up.end(signal.SIGTERM, 30) == 0
