"""A client of the API for tests: the real app on the test's engine, its clock in the test's hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from fastapi.testclient import TestClient

from pipeline.api.http.sessions import Role, issue
from pipeline.api.server.app import create_app
from pipeline.api.services.context import AppContext, Check
from pipeline.catalog.rates import RateTable
from pipeline.clickhouse.shards import Database
from tests.support.builders import NOW_MS, rate_table

SECRET = "a secret of the tests, long enough to sign with"


@dataclass
class Api:
    """The app around a context. `now_ms` may be set: it is the app's clock."""

    client: TestClient
    context: AppContext
    clock: list[int] = field(default_factory=lambda: [NOW_MS])

    def token(self, org: str, role: Role = "owner") -> str:
        """Return a session token of a member of an org."""
        return issue(SECRET, org, role, f"someone@{org}.example", self.clock[0])

    def ask(self, path: str, org: str | None = None, **parameters: Any) -> Any:
        """GET, as a member of an org if one is named; return status and JSON, its numbers exact."""
        headers = {"Authorization": f"Bearer {self.token(org)}"} if org else {}
        named = {name.rstrip("_"): value for name, value in parameters.items()}
        response = self.client.get(path, params=named, headers=headers)
        return response.status_code, json.loads(response.text, parse_float=Decimal)

    def get(self, path: str, org: str | None = None, **parameters: Any) -> Any:
        """GET what has to be there; return the JSON, its numbers exact."""
        status, body = self.ask(path, org, **parameters)
        assert status == 200, body
        return body

    def refused(self, path: str, org: str | None = None, **parameters: Any) -> tuple[int, str, str | None]:
        """GET what has to be refused; return status, code and parameter."""
        status, body = self.ask(path, org, **parameters)
        assert status >= 400, body
        return status, body["error"]["code"], body["error"].get("param")


@contextmanager
def api(
    engine: Database,
    *,
    key_names: Mapping[str, tuple[str, str]] | None = None,
    rates: RateTable | None = None,
    checks: Mapping[str, Check] | None = None,
    behind_ms: Callable[[str], int | None] = lambda _org: None,
) -> Iterator[Api]:
    """Run the app on an engine."""
    clock = [NOW_MS]
    context = AppContext(
        database=engine,
        key_names=key_names or {},
        rates=rates or rate_table(),
        session_secret=SECRET,
        now_ms=lambda: clock[0],
        checks=checks or {},
        behind_ms=behind_ms,
    )
    with TestClient(create_app(context), client=("127.0.0.1", 50_000)) as client:
        yield Api(client, context, clock)
