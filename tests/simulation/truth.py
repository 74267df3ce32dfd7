"""The account of the truth: what must be in the books, from what was published, in a few plain lines.

Owns: which events must, may and must not be charged, what each costs, and what commands come to. It
shares no code with the product but the shapes of commands and rates.
Called by: `workload.py`, which tells it; `compare.py`, which asks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import UnsetType

from pipeline.accounts import commands
from pipeline.catalog.rates import Rate

DAY_MS = 86_400_000
LATE_MS = 35 * DAY_MS
AHEAD_MS = 600_000
CATALOG_LAG_MS = 46_000
SIGNUP_NANO = 100 * 10**9
FROM_THE_START = ("steady", "changing")
"""The routes that have a rate before anything is published."""


@dataclass(slots=True, eq=False)
class Sent:
    """An event as its gateway meant it. `tokens` are prompt, cached of those, completion, and beside it reasoning."""

    source: str
    event_id: str
    org: str
    key: str
    tier: str
    byok: bool
    model: str
    failed: bool
    at_ms: int
    tokens: tuple[int, int, int, int]
    free: bool
    valid: bool
    partition: int
    value: bytes

    @property
    def identity(self) -> tuple[str, str]:
        """What names the event for ever."""
        return self.source, self.event_id

    def cost_nano(self, rate: Rate) -> int:
        """Return what it costs at a rate."""
        prompt, cached, completion, beside = self.tokens
        output = rate.output_nano * (completion + beside)
        return rate.input_nano * (prompt - cached) + rate.cached_nano * cached + output


@dataclass(slots=True)
class Fate:
    """What happened to an event on its way in: its copies by what their time of arrival allows."""

    sent: Sent
    in_time: int = 0
    first_ms: int = 0
    to_come: int = 0
    dead: Counter[str] = field(default_factory=Counter)


@dataclass
class KeyTruth:
    """A registered key as its commands made it."""

    tier: str
    budget_nano: int | None
    daily_limit: int | None
    revoked: bool = False


@dataclass
class OrgTruth:
    """What the commands of an org come to."""

    credited_nano: int = 0
    signed_up: bool = False
    keys: dict[str, KeyTruth] = field(default_factory=dict)
    entries: list[tuple[str, int]] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)
    left_paise: dict[str, int] = field(default_factory=dict)
    """What is left of each payment that was credited."""
    refunds: dict[str, tuple[str, int]] = field(default_factory=dict)

    def post(self, kind: str, amount_nano: int) -> None:
        """Post an entry."""
        self.credited_nano += amount_nano
        self.entries.append((kind, amount_nano))


class Truth:
    """What was accepted by the input topics, and what follows from it."""

    def __init__(self) -> None:
        """Start with nothing accepted."""
        self.counts: Counter[str] = Counter()
        self.accepted = 0
        self.fates: dict[tuple[str, str], Fate] = {}
        self.bad: Counter[tuple[bytes, str]] = Counter()
        self.bad_commands: list[tuple[bytes, str]] = []
        self.commands: list[tuple[int, commands.AnyCommand]] = []
        self.rates: list[tuple[int, Rate]] = []

    def accept(self, timestamp: int, events: Iterable[Sent], bad: Iterable[tuple[bytes, str]]) -> None:
        """Take note of a record that was appended to the requests."""
        for sent in events:
            self.accepted += 1
            in_time = timestamp - LATE_MS <= sent.at_ms <= timestamp + AHEAD_MS
            fate = self.fates.get(sent.identity)
            if fate is None:
                fate = self.fates[sent.identity] = Fate(sent, 0, timestamp)
            else:
                self.counts["events published again"] += 1
            if not in_time:
                late = sent.at_ms < timestamp
                fate.dead["too_late" if late else "from_the_future"] += 1
                fate.to_come += not late and sent.valid
            elif not sent.valid:
                fate.dead["invalid"] += 1
            else:
                fate.in_time += 1
        for element in bad:
            self.accepted += 1
            self.bad[element] += 1

    def prices(self, fate: Fate) -> set[tuple[int, int] | None]:
        """Return the (cost, start of the rate) an event may have been charged; None: it has no price.

        More than one only where the event's own time is ahead and a rate was announced meanwhile.
        """
        sent = fate.sent
        if sent.free:
            return {(0, 0)}
        of_route = [(known_ms, rate) for known_ms, rate in self.rates if rate.model == sent.model]
        surely = sum(known_ms <= fate.first_ms - CATALOG_LAG_MS for known_ms, _ in of_route)
        found: set[tuple[int, int] | None] = set()
        for known in range(surely, len(of_route) + 1):
            in_force = [rate for _, rate in of_route[:known] if rate.from_ms <= sent.at_ms]
            newest = max(in_force, key=lambda rate: rate.from_ms, default=None)
            found.add(None if newest is None else (sent.cost_nano(newest), newest.from_ms))
        return found

    def model_names(self, sent: Sent) -> set[str]:
        """Return by which names of its model an event may be in the books: a failed request may have made it up."""
        if not sent.failed:
            return {sent.model}
        known_ms = [at_ms for at_ms, rate in self.rates if rate.model == sent.model]
        if not known_ms:
            return {"(unlisted)"}
        return {sent.model} if sent.model in FROM_THE_START else {sent.model, "(unlisted)"}

    def must_be_charged(self, fate: Fate, now_ms: int) -> bool:
        """Whether an event has to be in the books by now, dead letters having been redriven just before."""
        if not fate.sent.free:
            of_route = [rate for _, rate in self.rates if rate.model == fate.sent.model]
            if not any(rate.from_ms <= fate.sent.at_ms for rate in of_route):
                return False
        has_come = fate.sent.at_ms <= now_ms + AHEAD_MS
        return fate.in_time > 0 or (fate.to_come > 0 and has_come)

    def orgs(self) -> dict[str, OrgTruth]:
        """Return what the commands come to, org by org."""
        orgs: defaultdict[str, OrgTruth] = defaultdict(OrgTruth)
        for _, command in self.commands:
            about_no_org = commands.Barrier | commands.NoteStray | commands.TellStatements
            if not isinstance(command, about_no_org | commands.View):
                _carry_out(orgs[command.org], command)
        return orgs


def _carry_out(org: OrgTruth, command: commands.AnyAccountCommand) -> None:
    if isinstance(command, commands.ByPayment):
        _take_money_news(org, command)
        return
    if command.id in org.answered:
        return
    match command:
        case commands.SignUp():
            if not org.signed_up:
                org.signed_up = True
                org.post("promo", SIGNUP_NANO)
        case commands.Credit():
            org.post("correction", command.amount_nano)
        case commands.CreateKey() | commands.ChangeKey():
            if not _change_key(org.keys, command):
                return
    org.answered.add(command.id)


def _change_key(keys: dict[str, KeyTruth], command: commands.CreateKey | commands.ChangeKey) -> bool:
    """Change the keys; whether the command was carried out."""
    key = keys.get(command.key_id)
    if isinstance(command, commands.CreateKey):
        too_many = command.tier == "trial" and (command.daily_limit or 0) > 200
        if key is not None or too_many:
            return False
        keys[command.key_id] = KeyTruth(command.tier, command.budget_nano, command.daily_limit)
        return True
    if key is not None and command.revoked:
        key.revoked = True
    elif key is not None:
        assert not isinstance(command.budget_nano, UnsetType)
        assert not isinstance(command.daily_limit, UnsetType)
        key.budget_nano, key.daily_limit = command.budget_nano, command.daily_limit
    return key is not None


def _take_money_news(org: OrgTruth, command: commands.ByPayment) -> None:
    nano_a_paisa = 10**7
    if isinstance(command, commands.Capture):
        right = command.order is not None and command.order.amount_paise == command.amount_paise
        if right and command.payment_id not in org.left_paise:
            org.left_paise[command.payment_id] = command.amount_paise
            org.post("topup", command.amount_paise * nano_a_paisa)
    elif isinstance(command, commands.TakeRefund):
        status, taken = org.refunds.get(command.refund_id, ("new", 0))
        left = org.left_paise.get(command.payment_id, 0)
        if status == "new" and command.failed:
            org.refunds[command.refund_id] = ("failed", 0)
        elif status == "new" and command.amount_paise <= left:
            org.refunds[command.refund_id] = ("debited", command.amount_paise)
            org.left_paise[command.payment_id] = left - command.amount_paise
            org.post("refund", -command.amount_paise * nano_a_paisa)
        elif status == "debited" and command.failed:
            org.refunds[command.refund_id] = ("failed", taken)
            org.left_paise[command.payment_id] = left + taken
            org.post("refund", taken * nano_a_paisa)
