"""The demo under a real Prometheus for some minutes: what the panels' queries return of it, and what the books say.

Owns: the run: the demo with its history and live traffic, a payment, an operator's credit, an event that cannot be
charged, and the API's own totals at two times.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2

from pipeline.api.http.sessions import COOKIE, issue
from pipeline.demo.live import SAY_EVERY_S
from pipeline.demo.platform import AGENCY, ORGS
from pipeline.local import deployment
from pipeline.local.deployment import Deployment
from tests.support.board.drawing import Line, Shown
from tests.support.board.panels import Panel, Target, panels
from tests.support.board.prometheus_server import PrometheusServer, Series, running_prometheus
from tests.support.pictures import Demo, running_demo
from tests.support.product.razorpay import ADDRESS

RATE = 10
"""Live requests a second that the demo is asked for; its own default."""
STEP_S = 10
WATCHED_S = 120
"""For how long the live traffic is watched."""
READY_LIMIT_S = 180.0
SAYS_LIMIT_S = 300.0


@dataclass(frozen=True)
class Totals:
    """What the books say of all orgs: requests and what they cost, at a time in seconds since 1970."""

    at_s: float
    requests: int
    cost_inr: Decimal


@dataclass(frozen=True)
class Observed:
    """A run: from when to when Prometheus watched, and the books when the live traffic was watched and at the end."""

    at: Deployment
    prometheus: PrometheusServer
    start_s: float
    first: Totals
    last: Totals
    served_a_second: float
    """What the demo says that it was answered, of what it sent, while its live traffic ran."""
    exact: tuple[Totals, dict[str, float], Totals]
    """The books, the worker's counters as Prometheus scraped them after, and the books after that."""

    @cached_property
    def shown(self) -> list[Shown]:
        """Every panel with the lines that its queries return over the whole run."""
        return [self.show(panel) for panel in panels()]

    def show(self, panel: Panel) -> Shown:
        """Return a panel with its lines."""
        found = [
            Line(target.line_name(series.labels), series.points)
            for target in panel.targets
            for series in self.over(target)
        ]
        return Shown(panel, found)

    def over(self, target: Target, start_s: float | None = None) -> list[Series]:
        """Return what a query returns over the run, or since a time."""
        asked = target.asked(self.prometheus.scrape_s, STEP_S)
        return self.prometheus.range(asked, start_s or self.start_s, self.last.at_s, STEP_S)

    def now(self, target: Target) -> list[Series]:
        """Return what a query returns at the end of the run."""
        return self.prometheus.instant(target.asked(self.prometheus.scrape_s, STEP_S), self.last.at_s)


@contextmanager
def observed_demo(program: str) -> Iterator[Observed]:
    """Run the demo and watch it. Raises AssertionError where a part is not ready in time."""
    with running_demo() as demo, TemporaryDirectory() as home:
        at = _up(demo)
        targets = {"worker": at.worker_url, "server": at.server_status_url}
        addresses = {job: [url.removeprefix("http://")] for job, url in targets.items()}
        with running_prometheus(program, Path(home), addresses) as prometheus:
            start_s = time.time()
            demo.until("Live traffic", SAYS_LIMIT_S)
            _pay(at)
            _metering(demo, "credit", AGENCY.org, "--inr", "50", "--reason", "a top-up")
            _metering(demo, "verify")
            # Until the rates that are compared see nothing of the history that was put in.
            time.sleep(60)
            first = totals(at)
            time.sleep(WATCHED_S)
            last = totals(at)
            served = _served_a_second(demo)
            yield Observed(at, prometheus, start_s, first, last, served, _exact(at, prometheus))


def _up(demo: Demo) -> Deployment:
    data_dir = demo.log.parent / "data"
    until_s = time.monotonic() + READY_LIMIT_S
    while (at := deployment.running(data_dir)) is None:
        assert demo.popen.poll() is None and time.monotonic() < until_s, demo.log.read_text()
        time.sleep(0.2)
    return at


def totals(at: Deployment) -> Totals:
    """Return the sums over all orgs, as the API answers."""
    found = [_asked(at, org.org, "GET", "/me/activity")["totals"] for org in ORGS]
    return Totals(
        time.time(),
        sum(int(each["requests"]) for each in found),
        sum((Decimal(each["cost_inr"]) for each in found), Decimal(0)),
    )


def _asked(at: Deployment, org: str, method: str, path: str, body: object = None) -> Any:
    token = issue(at.session_secret, org, "owner", "", int(time.time() * 1000))
    # A page takes the cookie alone.
    signed_in = {"Cookie": f"{COOKIE}={token}"} if method == "GET" else {"Authorization": f"Bearer {token}"}
    answer = httpx2.request(
        method,
        f"{at.http_url}{path}",
        json=body,
        headers=signed_in,
        trust_env=False,
        verify=False,
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    if answer.headers["Content-Type"].startswith("text/html"):
        return answer.text
    return json.loads(answer.text, parse_float=Decimal)


def _pay(at: Deployment) -> None:
    """Top up an org by 500 rupees, as a person does on the billing page."""
    org = ORGS[0].org
    _asked(at, org, "PUT", "/me/billing/address", ADDRESS)
    order = _asked(at, org, "POST", "/me/billing/orders", {"amount_inr": 500})["order_id"]
    [script] = set(re.findall(r"http://[\d.:]+/v1/checkout\.js", _asked(at, org, "GET", "/billing")))
    razorpay = script.removesuffix("/v1/checkout.js")
    paid = httpx2.post(
        f"{razorpay}/checkout/{order}/standin", json={"outcome": "captured"}, trust_env=False, timeout=30
    )
    assert paid.status_code == 200, paid.text


def _metering(demo: Demo, *arguments: str) -> None:
    command = [sys.executable, "-m", "pipeline", *arguments, "--data-dir", str(demo.log.parent / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _served_a_second(demo: Demo) -> float:
    """Return how many requests a second were answered by a provider, by the demo's own words, which come each minute."""
    said = re.findall(r"Live: ([\d,]+) served, ([\d,]+) failed", demo.log.read_text())
    answered = [sum(int(number.replace(",", "")) for number in each) for each in said]
    assert len(answered) > 1, "the demo tells each minute how many were served"
    return (answered[-1] - answered[0]) / (SAY_EVERY_S * (len(answered) - 1))


COUNTERS = ("metering_requests_posted_total", "metering_debited_rupees_total")


def _exact(at: Deployment, prometheus: PrometheusServer) -> tuple[Totals, dict[str, float], Totals]:
    """Return the books, the counters as scraped a whole scrape after, and the books once they have reached these."""
    before = totals(at)
    time.sleep(2 * prometheus.scrape_s)
    found = {}
    for name in COUNTERS:
        [series] = prometheus.instant(f"sum({name})", time.time())
        found[name] = series.points[-1][1]
    until_s = time.monotonic() + 30
    while (after := totals(at)).requests < found["metering_requests_posted_total"]:
        assert time.monotonic() < until_s, (after, found)
        time.sleep(0.5)
    return before, found, after
