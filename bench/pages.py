"""(w) The dashboard's pages in a browser, for an org with most of a year's requests.

Owns: which pages are opened, and how often. Everything is the product itself: broker, worker, server, engine.
Called by: `bench/__main__.py`. Next: `bench/year.py`, `tests/support/chromium.py`.

A page is opened as one who comes back opens it: scripts come from the browser's cache but for the first round, the
numbers never. «First numbers» is when the first of what was waiting has come, «complete» when nothing waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict

from playwright.sync_api import sync_playwright

from bench.processes import COMMAND_KEY, SESSION_SECRET, bench
from bench.report import Report, percentile
from bench.year import LARGE_ORG, fill
from pipeline.accounts.authentication import CommandKeys
from pipeline.accounts.commands import Credit, SignUp
from pipeline.api.http.parameters import last_days
from pipeline.api.http.sessions import issue
from pipeline.api.pages import navigation
from pipeline.clickhouse.client import open_engine
from pipeline.kafka.commands import CommandClient, new_command_id
from pipeline.money import NANO_PER_RUPEE
from tests.support.chromium import FLAGS, WATCH_LOADING, LoadTimes, chromium_path, load_times

EVENTS, EVENTS_FULL = 1_250_000, 12_500_000
TENTHS = 8
"""Of the requests are the org's that is looked at: 10,000,000 in full. Rows of others hardly matter, as all tables
are ordered by org."""
PARTITIONS = 2
"""The rows that are made here are those of one more partition: the sink sees that they are none of its own."""
ROUNDS = 5
YEAR_DAYS = 366
LIMIT_MS = 60_000
EMAIL = "x@bench.example"


async def pages(*, full: bool) -> Report:
    """(w) How long pages take, by the browser's clock."""
    events = EVENTS_FULL if full else EVENTS
    report = Report(
        "w",
        f"pages of an org with {events * TENTHS // 10:,} of {events:,} requests in the last {YEAR_DAYS} days",
        ("page", "first numbers, median ms", "at most ms", "complete, median ms", "at most ms"),
    )
    path = chromium_path()
    if path is None:
        report.notes.append("Not measured: no Chromium here (`make browser`).")
        return report
    async with bench(PARTITIONS) as run:
        run.worker()
        server = run.server()
        await run.ready(server)
        client = CommandClient(run.connection, CommandKeys.parse(COMMAND_KEY))
        await client.start()
        await client.send(SignUp(new_command_id(), LARGE_ORG, "The large org", EMAIL), 30)
        await client.send(
            Credit(new_command_id(), LARGE_ORG, 10_000 * NANO_PER_RUPEE, "to have a balance"), 30
        )
        await client.stop()
        server.stop()
        year = last_days(_now_ms(), YEAR_DAYS)
        engine = open_engine(f"chdb://{run.home}/clickhouse")
        took_s = await asyncio.to_thread(fill, engine, events, year.first, TENTHS, PARTITIONS)
        engine.close()
        report.notes.append(f"The rows were made in {took_s:.0f} s.")
        server = run.server()
        await run.ready(server)
        seen = await asyncio.to_thread(_look, path, run.http_url)
    for address, times in seen.items():
        first, complete = [each.first_ms for each in times], [each.complete_ms for each in times]
        report.add(address, percentile(first, 0.5), max(first), percentile(complete, 0.5), max(complete))
    return report


def _look(path: str, url: str) -> dict[str, list[LoadTimes]]:
    """Open every page some times, each in a tab of its own, and return what the browser's clock said."""
    seen: dict[str, list[LoadTimes]] = defaultdict(list)
    token = issue(SESSION_SECRET, LARGE_ORG, "owner", EMAIL, _now_ms())
    year = last_days(_now_ms(), YEAR_DAYS)
    addresses = [
        *(place.address for place in navigation.MEMBERS),
        f"/activity?from={year.first}&to={year.last}",
        *(place.address for place in navigation.PUBLIC),
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-IN")
        context.add_cookies([{"name": "br_session", "value": token, "url": url}])
        for _ in range(ROUNDS):
            for address in addresses:
                page = context.new_page()
                page.add_init_script(WATCH_LOADING)
                page.goto(f"{url}{address}")
                seen[address.partition("?")[0] + (", a year" if "?" in address else "")].append(
                    load_times(page, LIMIT_MS)
                )
                page.close()
        browser.close()
    return seen


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
