"""What the app is made of: everything its routes need from the outside, handed in once.

Owns: `AppContext`. A route gets it from `api/services/dependencies.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pipeline import telemetry
from pipeline.api.http.limiter import RequestRate
from pipeline.api.services.accounts import AccountServices
from pipeline.api.services.checkpoints import CheckpointBook
from pipeline.api.services.sessions import SessionRegister
from pipeline.api.services.tokens import TokenRegister
from pipeline.catalog.rates import RateTable
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.queries import OrgScope
from pipeline.clickhouse.shards import Database
from pipeline.exposition import MetricGroup
from pipeline.settings import ADDRESS_REQUESTS_PER_S, CHECKOUT_URL, SESSION_REQUESTS_PER_S, Settings

KeyNames = Mapping[str, tuple[str, str]]
"""key_id -> (org, name): every key there is, kept up to date by whoever reads `metering.keys`."""

Check = Callable[[], Awaitable[str | None]]
"""Says what is wrong with a part of the product, or None where it is ready."""


EXCHANGES_PER_S, EXCHANGES_AT_ONCE = 1 / 30, 20


def rate_of(requests_per_s: int) -> RequestRate:
    """Return the limit of so many requests a second, ten seconds of them at once."""
    return RequestRate(requests_per_s, 10 * requests_per_s)


@dataclass(frozen=True)
class AppContext:
    """What the routes need. `now_ms` is the clock; `checks` are the parts that `/healthz` names.

    An app may be made without `accounts`: then the routes that ask an account's owner answer 503. Without
    `settings` the operator's routes answer 404, as they do without an operator's token. Without `known_sessions`
    that a session is over is known to this app alone, and so are its access tokens without `known_tokens`.
    """

    database: Database
    key_names: KeyNames
    rates: RateTable
    session_secret: str = field(repr=False)
    now_ms: Callable[[], int]
    checks: Mapping[str, Check] = field(default_factory=dict)
    behind_ms: Callable[[str], int | None] = lambda _org: None
    """How far ClickHouse is behind the journal for an org; None where this server does not know."""
    metric_groups: Sequence[MetricGroup] = field(default_factory=lambda: telemetry.shown_by("server"))
    """What `/metrics` shows."""
    accounts: AccountServices | None = None
    settings: Settings | None = field(default=None, repr=False)
    """What `verify` and `reconcile` are run with when the operator asks for them."""
    public_url: str | None = None
    """What browsers see, where a proxy stands before the server."""
    checkout_url: str = CHECKOUT_URL
    """The script of Razorpay's Checkout, for the billing page."""
    gateway_url: str | None = None
    """Where programs send requests: what the page of keys shows with a new key."""

    address_requests: RequestRate = field(default_factory=lambda: rate_of(ADDRESS_REQUESTS_PER_S))
    """How many requests each network address may send."""
    session_requests: RequestRate = field(default_factory=lambda: rate_of(SESSION_REQUESTS_PER_S))
    """How many requests each session may send."""
    session_exchanges: RequestRate = field(
        default_factory=lambda: RequestRate(EXCHANGES_PER_S, EXCHANGES_AT_ONCE)
    )
    """How often a session and those in its place may be exchanged: each is a record that every server keeps."""
    known_sessions: SessionRegister | None = None
    """Which sessions are good, as all servers know it."""
    checkpoints: CheckpointBook = field(default_factory=CheckpointBook)
    """The signed checkpoints there are."""
    known_tokens: TokenRegister | None = None
    """Which access tokens are good, as all servers know it."""

    @cached_property
    def sessions(self) -> SessionRegister:
        """Which sessions are good."""
        return self.known_sessions or SessionRegister.of_this_process(self.session_secret, self.now_ms)

    @cached_property
    def tokens(self) -> TokenRegister:
        """Which access tokens are good."""
        return self.known_tokens or TokenRegister.of_this_process(self.session_secret, self.now_ms)

    def engine_of(self, scope: OrgScope) -> Engine:
        """Return who has an org's rows."""
        return self.database.of_org(scope.org)

    def key_name(self, scope: OrgScope, key_id: str) -> str | None:
        """Return the current name of an org's key; None for a key that is unknown or another org's.

        A gateway may report another org's key id by mistake: its name must not show here.
        """
        org, name = self.key_names.get(key_id, (None, None))
        return name if org == scope.org else None
