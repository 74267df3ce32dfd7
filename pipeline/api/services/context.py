"""What the API is made of: everything it needs from the outside, handed in once.

Owns: `Parts`, and how a route gets at them.
Called by: the composition root, which builds them, and every router.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from prometheus_client import REGISTRY, CollectorRegistry

from pipeline.catalog.rates import RateTable
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.queries import OrgScope

KeyNames = Mapping[str, tuple[str, str]]
"""key_id -> (org, name): every key there is, kept up to date by whoever reads `metering.keys`."""

Check = Callable[[], Awaitable[str | None]]
"""Says what is wrong with a part of the product, or None where it is ready."""


@dataclass(frozen=True)
class Parts:
    """What the routes need. `now_ms` is the clock; `checks` are the parts that `/healthz` names."""

    engine: Engine
    key_names: KeyNames
    rates: RateTable
    session_secret: str = field(repr=False)
    now_ms: Callable[[], int]
    checks: Mapping[str, Check] = field(default_factory=dict)
    registry: CollectorRegistry = REGISTRY
    public_url: str | None = None
    """What browsers see, where a proxy stands before the server."""
    routers: tuple[APIRouter, ...] = ()
    """Routers beside the reading ones: billing, keys, webhooks, the operator's."""

    def key_name(self, scope: OrgScope, key_id: str) -> str | None:
        """Return the current name of an org's key; None for a key that is unknown or another org's.

        A gateway may report another org's key id by mistake: its name must not show here.
        """
        org, name = self.key_names.get(key_id, (None, None))
        return name if org == scope.org else None


async def parts_of(request: Request) -> Parts:
    """Return the parts of the app that a request came to."""
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    return parts


PartsOf = Annotated[Parts, Depends(parts_of)]
