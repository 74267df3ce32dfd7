"""Ask the product what a member would ask, and show it: a table, addresses, and lines to try.

Owns: the words of the demo on stderr, and the wait until the history shows.
Called by: `demo/main.py`. It reads the HTTP API like anybody else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from msgspec import Struct

from pipeline.api.pages import navigation
from pipeline.demo.platform import DemoOrg
from pipeline.demo.sign_in import token_of

SHOWN_LIMIT_S = 90.0
PATHS_TO_TRY = ("/me/usage", "/me/activity", "/me/activity/events?limit=5", "/me/billing")
CHAT = b'{"model": "sarvam-m", "messages": [{"role": "user", "content": "Namaste"}]}\n'
"""The body of a request to the stand-in gateway."""
_AGAIN_S = 0.25
_CENTS = Decimal("0.01")


class Line(Struct, frozen=True):
    """One org's figures as the API answers them."""

    org: str
    name: str
    today: int
    last_30_days: int
    cost_inr: Decimal
    balance_inr: Decimal


class _Totals(Struct, frozen=True):
    requests: int
    cost_inr: Decimal = Decimal(0)


class _Windows(Struct, frozen=True):
    today: _Totals
    last_30_days: _Totals


class _Usage(Struct, frozen=True):
    totals: _Windows


class _Activity(Struct, frozen=True):
    totals: _Totals


class _Billing(Struct, frozen=True):
    balance_inr: Decimal


class Member:
    """An owner of an org, asking the API."""

    def __init__(self, client: httpx2.AsyncClient, url: str, org: DemoOrg, session_secret: str) -> None:
        """Sign a session for the org's owner."""
        self.org, self.token = org, token_of(org, session_secret)
        self._client, self._url = client, url

    async def line(self) -> Line:
        """Return the org's figures. Raises httpx2.HTTPError while the product cannot answer."""
        usage = await self._ask("/me/usage", _Usage)
        activity = await self._ask("/me/activity", _Activity)
        billing = await self._ask("/me/billing", _Billing)
        return Line(
            self.org.org,
            self.org.name,
            usage.totals.today.requests,
            usage.totals.last_30_days.requests,
            activity.totals.cost_inr,
            billing.balance_inr,
        )

    async def requests(self) -> int:
        """Return how many requests of the last 30 days show. Raises httpx2.HTTPError."""
        activity: _Activity = await self._ask("/me/activity", _Activity)
        return activity.totals.requests

    async def _ask(self, path: str, kind: Any) -> Any:
        answer = await self._client.get(
            f"{self._url}{path}", headers={"Authorization": f"Bearer {self.token}"}
        )
        answer.raise_for_status()
        return msgspec.json.decode(answer.content, type=kind)


async def until_shown(members: list[Member], expected: dict[str, int]) -> bool:
    """Return once the API shows as many requests of each org as expected; False after a limit."""
    until_s = time.monotonic() + SHOWN_LIMIT_S
    waiting = list(members)
    while waiting:
        with suppress(httpx2.HTTPError):
            waiting = [m for m in waiting if await m.requests() < expected.get(m.org.org, 0)]
        if time.monotonic() > until_s:
            return False
        if waiting:
            await asyncio.sleep(_AGAIN_S)
    return True


def table(lines: list[Line]) -> str:
    """Return the figures as a table for people."""
    head = ("org", "", "today", "30 days", "cost INR", "balance INR")
    rows = [
        (
            line.org,
            line.name,
            f"{line.today:,}",
            f"{line.last_30_days:,}",
            f"{line.cost_inr.quantize(_CENTS):,}",
            f"{line.balance_inr.quantize(_CENTS):,}",
        )
        for line in lines
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join(
        "  "
        + "  ".join(
            _placed(cell, width, column) for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    )


def addresses(url: str, gateway_url: str, inbox_url: str | None) -> str:
    """Return where everything is."""
    return "\n".join(
        (
            f"  pages      {_listed(url, navigation.MEMBERS)}  (the address in the first line signs you in)",
            f"  for all    {url}/, {_listed(url, navigation.PUBLIC)}",
            *([f"  mails      {inbox_url}"] if inbox_url else []),
            f"  API        {url}/docs",
            f"  metrics    {url}/metrics",
            f"  gateway    {gateway_url}/v1  (OpenAI's form; a stand-in: its answers are canned)",
        )
    )


def _listed(url: str, entries: Iterable[navigation.NavigationEntry]) -> str:
    return ", ".join(f"{url}{entry.address}" for entry in entries)


def to_try(url: str, gateway_url: str, members: list[Member], api_key: str, chat_file: Path) -> str:
    """Return the sessions, and lines to paste into a shell. `chat_file` has the body of a request (`CHAT`)."""
    first = members[0]
    tokens = "\n".join(f"  {_variable(m.org)}='{m.token}'   # {m.org.name}, owner" for m in members)
    ask = f'curl -s -H "Authorization: Bearer ${_variable(first.org)}"'
    lines = [f"  {ask} '{url}{path}'" for path in PATHS_TO_TRY]
    lines.append(f"  curl -s '{url}/v1/rankings'")
    lines.append(
        f"  curl -s -H 'Authorization: Bearer {api_key}' -H 'Content-Type: application/json' "
        f"-d '@{chat_file}' '{gateway_url}/v1/chat/completions'"
    )
    return "\n".join(("Sessions:", tokens, "To try:", *lines))


def _variable(org: DemoOrg) -> str:
    return org.org.removeprefix("org_").upper()


def _placed(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column < 2 else cell.rjust(width)  # noqa: PLR2004 - names first, then figures
