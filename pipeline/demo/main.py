"""The demo's own process: put the platform in, show what to open, and keep traffic going.

Owns: the order of these, and what is printed, all of it on stderr.
Run as `python -m pipeline.demo.main` by the supervisor, once the product is ready (`cli/demo.py`).
Next: `demo/seeding.py`, `demo/answers.py`, `demo/live.py`.

It may be killed at any moment and started again.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path

import httpx2
from aiokafka.errors import KafkaError

from pipeline import logs
from pipeline.catalog.apply import CatalogError
from pipeline.demo import answers, marker
from pipeline.demo.live import LiveTraffic
from pipeline.demo.marker import Marker, MarkerError
from pipeline.demo.platform import ORGS, STARTUP
from pipeline.demo.seeding import SeedingError, seed
from pipeline.kafka.commands import UnavailableError
from pipeline.kafka.partitions import PartitionsError
from pipeline.settings import Settings

CHAT_FILE = "demo-chat.json"
_GATEWAY_LIMIT_S = 60.0
_AGAIN_S = 0.1
_EXPECTED = (SeedingError, MarkerError, CatalogError, KafkaError, UnavailableError, PartitionsError, OSError)


def main() -> int:
    """Run until told to stop; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.demo.main", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--url", required=True, help="Where the product's server is.")
    parser.add_argument("--gateway-url", required=True, help="Where the stand-in gateway is.")
    parser.add_argument("--inbox-url", default=None, help="Where the stand-in inbox shows mails.")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="Live requests a second; 0 for none.")
    given = parser.parse_args()
    logs.configure("warning")
    try:
        asyncio.run(_until_stopped(given))
    except _EXPECTED as error:
        say(f"demo: {error}")
        return 1
    return 0


def say(message: str) -> None:
    """Print a message for a person."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


async def _until_stopped(given: argparse.Namespace) -> None:
    running = asyncio.ensure_future(_run(given))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        return


async def _run(given: argparse.Namespace) -> None:
    settings = Settings()
    session_secret = settings.session_secret.get_secret_value() if settings.session_secret else ""
    platform = marker.load_or_make(given.data_dir, given.seed, given.rate, _now_ms())
    async with httpx2.AsyncClient(trust_env=False, timeout=15) as client:
        members = [answers.Member(client, given.url, org, session_secret) for org in ORGS]
        if platform.done:
            say("The demo's platform is in already; its history is not added again.")
            if platform.seed != given.seed:
                say(f"It was made from seed {platform.seed}. Another seed needs another --data-dir.")
        else:
            expected = await seed(settings, platform, say)
            if not await answers.until_shown(members, expected):
                say("The history is in, but does not show in full yet.")
            platform = marker.finish(given.data_dir, platform)
        lines = [await member.line() for member in members]
        await _until_healthy(client, given.gateway_url)
        say("\nWhat the API answers now:\n" + answers.table(lines))
        say("\nOpen:\n" + answers.addresses(given.url, given.gateway_url, given.inbox_url))
        api_key = platform.api_keys[STARTUP.keys[0].key_id]
        chat_file = given.data_dir / CHAT_FILE
        chat_file.write_bytes(answers.CHAT)
        say(answers.to_try(given.url, given.gateway_url, members, api_key, chat_file))
        await _go_on(given, client, platform)


async def _go_on(given: argparse.Namespace, client: httpx2.AsyncClient, platform: Marker) -> None:
    """Keep live traffic going until cancelled, or nothing where none was asked for."""
    if given.rate <= 0:
        say("\nNo live traffic was asked for. Ctrl-C stops everything.")
        await asyncio.Event().wait()
    say(f"\nLive traffic: {given.rate:g} requests a second. Ctrl-C stops everything.")
    traffic = LiveTraffic(client, given.gateway_url, platform.api_keys, say, given.data_dir)
    await traffic.run(platform.seed, given.rate)


async def _until_healthy(client: httpx2.AsyncClient, url: str) -> None:
    """Return once the stand-in gateway is ready. Raises SeedingError after a limit."""
    until_s = time.monotonic() + _GATEWAY_LIMIT_S
    while True:
        try:
            if (await client.get(f"{url}/healthz")).status_code == httpx2.codes.OK:
                return
        except httpx2.HTTPError:
            pass
        if time.monotonic() > until_s:
            raise SeedingError(f"the stand-in gateway at {url} does not answer")
        await asyncio.sleep(_AGAIN_S)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
