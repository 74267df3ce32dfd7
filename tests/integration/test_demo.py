"""`metering demo` for real: killed while it puts the platform in, finished, watched, stopped."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from pipeline.api.http.sessions import issue
from pipeline.demo.marker import FILE, Marker
from pipeline.demo.platform import AGENCY, ORGS, STARTUP
from pipeline.demo.seeding import catalog, table_of
from pipeline.demo.traffic import history
from pipeline.local import deployment

READY_LIMIT_S = 150.0
STOP_LIMIT_S = 30.0
LIMIT_S = 60.0
FOR_PROGRAMS = ('{"', "\x1b")
"""What JSON begins with, and what moves a terminal's cursor."""


class Demo:
    """One run of the command."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        self.log = home.parent / f"{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "pipeline", "demo", "--data-dir", str(home)]
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                [*command, "--port", "0", "--kafka-port", "0", *options], stdout=subprocess.PIPE, stderr=log
            )

    def said(self) -> str:
        """Return what it has said so far."""
        return self.log.read_text(errors="replace")

    def until(self, words: str, limit_s: float = READY_LIMIT_S) -> str:
        """Wait until it has said something, and return everything it said."""
        eventually(lambda: words in self.said() or self.popen.poll() is not None, limit_s)
        assert words in self.said(), self.said()
        return self.said()

    def children(self) -> list[int]:
        """Return the ids of its processes."""
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.popen.pid)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in listed.stdout.split()]

    def usage(self, org: str) -> int:
        """Return the org's requests of the last 30 days, as the API answers."""
        return int(self.ask(org, "/me/usage")["totals"]["last_30_days"]["requests"])

    def ask(self, org: str, path: str) -> dict[str, Any]:
        """Ask the API as the org's owner."""
        at = deployment.running(self.home)
        assert at is not None, self.said()
        token = issue(at.session_secret, org, "owner", "", int(time.time() * 1000))
        answer = httpx2.get(
            f"{at.http_url}{path}",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            verify=False,
            timeout=20,
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def command(self, *arguments: str) -> None:
        """Run another command on the same directory."""
        command = [sys.executable, "-m", "pipeline", *arguments, "--data-dir", str(self.home)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr

    def stop(self, number: signal.Signals) -> None:
        """End it and make sure that nothing of it is left and stdout was not used."""
        children = self.children()
        assert children
        self.popen.send_signal(number)
        code = self.popen.wait(STOP_LIMIT_S)
        assert code == (0 if number is signal.SIGTERM else -number), self.said()
        eventually(lambda: not any(lives(pid) for pid in children), 10)
        assert self.popen.stdout is not None
        assert self.popen.stdout.read() == b""


def eventually(holds: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Return as soon as something holds; fail where it does not within the bound."""
    until_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < until_s, "it did not come about"
        time.sleep(0.05)


def lives(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Start demos on one data directory; what still runs at the end is killed."""
    started: list[Demo] = []

    def one(*options: str) -> Demo:
        started.append(Demo(tmp_path / "data", *options))
        return started[-1]

    yield one
    for demo in started:
        if demo.popen.poll() is None:
            demo.popen.kill()
        demo.popen.wait()
        assert demo.popen.stdout is not None
        demo.popen.stdout.close()


def expected(home: Path) -> dict[str, int]:
    """Return how many requests of each org the platform's history has."""
    marker = msgspec.json.decode((home / FILE).read_bytes(), type=Marker)
    counted = dict.fromkeys((org.org for org in ORGS), 0)
    for batch in history(marker.seed, marker.now_ms, table_of(catalog(marker.now_ms))):
        counted[batch.org] += len(batch.events)
    return counted


@pytest.mark.timeout(900)
def test_killed_while_seeding_finished_once_watched_and_stopped(start: Callable[..., Demo]) -> None:
    killed = start("--rate", "0")
    _is_calm(killed.until("History: "))
    killed.stop(signal.SIGKILL)

    whole = start("--rate", "0")
    said = whole.until("No live traffic")
    history_of = expected(whole.home)
    assert sum(history_of.values()) > 20_000
    for org in ORGS:
        assert whole.usage(org.org) == history_of[org.org]
        assert whole.ask(org.org, "/me/billing")["balance_inr"] > 0
        # The table a person sees has the same figure in it.
        assert re.search(rf"{org.org} .*\b{history_of[org.org]:,}\b", said)
    for words in (
        "/docs",
        "/me/billing",
        "/metrics",
        "/v1/chat/completions",
        "curl",
        "Authorization: Bearer",
    ):
        assert words in said
    # The first line's address signs a browser in, whenever it is opened.
    [address] = re.findall(r"\AThe overview, signed in: (\S+)\n", said)
    for _ in range(2):
        with httpx2.Client(trust_env=False, follow_redirects=True, timeout=20) as browser:
            page = browser.get(address)
            assert page.status_code == 200 and page.url.path == "/overview"
    whole.command("verify")
    whole.stop(signal.SIGTERM)
    assert not any(unwanted in whole.said() for unwanted in FOR_PROGRAMS), whole.said()

    watched = start("--rate", "10")
    watched.until("is in already")
    watched.until("Live traffic: 10 requests a second")
    # With no live traffic foreseen, next to nothing was left to spend.
    watched.until("402 insufficient_credits", LIMIT_S)
    watched.until("429 budget_exceeded", LIMIT_S)
    eventually(lambda: watched.usage(STARTUP.org) > history_of[STARTUP.org])
    refused = watched.usage(AGENCY.org)
    assert history_of[AGENCY.org] <= refused < history_of[AGENCY.org] + 200
    watched.command("credit", AGENCY.org, "--inr", "50", "--reason", "a top-up")
    watched.until(f"Served again: {AGENCY.name}", LIMIT_S)
    watched.command("verify")
    watched.stop(signal.SIGTERM)


def _is_calm(said: str) -> None:
    """Nothing of a healthy start looks like a failure, is written for programs, or moves a terminal's cursor."""
    for unwanted in ("WARNING", "ERROR", "CRITICAL", "Traceback", *FOR_PROGRAMS):
        assert unwanted not in said, said
