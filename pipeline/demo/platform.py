"""Who is on the demo's platform: three orgs, their keys, the models they use, and when they work.

Owns: names, shares and habits; no figure of money.
Called by: `demo/traffic.py`, which draws requests from it, `demo/seeding.py` and `demo/live.py`.

The ids are chosen so that four partitions spread the orgs over three of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Tier = Literal["standard", "trial"]


@dataclass(frozen=True)
class DemoKey:
    """An API key. `share` is its part of the org's requests; `models` are its own where they differ."""

    name: str
    key_id: str
    share: int
    tier: Tier = "standard"
    byok: bool = False
    models: Mapping[str, int] | None = None
    budgeted: bool = False
    """Whether it gets a monthly budget that it runs into while one watches."""


@dataclass(frozen=True)
class DemoOrg:
    """An org. `models` maps each model to its part of the requests, `weekdays` is how busy Monday to Sunday are."""

    org: str
    name: str
    email: str
    requests_a_day: int
    """On a full working day."""
    live_share: int
    models: Mapping[str, int]
    keys: tuple[DemoKey, ...]
    weekdays: tuple[float, ...]
    hours: tuple[int, ...] = field(repr=False)
    runs_dry: bool = False
    """Whether its balance ends while one watches."""


@dataclass(frozen=True)
class Outage:
    """Some hours of one IST day in which a provider does not serve."""

    provider: str
    days_ago: int
    from_hour: int
    until_hour: int


_OFFICE = (1, 1, 1, 1, 1, 2, 4, 8, 20, 52, 86, 96, 90, 62, 74, 95, 100, 92, 74, 46, 28, 18, 9, 4)
_AGENCY = (0, 0, 0, 0, 0, 0, 1, 3, 10, 40, 80, 100, 96, 40, 70, 96, 100, 96, 84, 52, 20, 8, 2, 0)
_EVENINGS = (3, 1, 0, 0, 0, 1, 4, 10, 14, 10, 8, 10, 12, 14, 10, 10, 14, 24, 44, 70, 96, 100, 64, 20)
"""Requests by the hour of the IST day, against the busiest one."""

STARTUP = DemoOrg(
    org="org_nimbulabs",
    name="Nimbu Labs",
    email="founders@nimbu.example",
    requests_a_day=900,
    live_share=58,
    models={
        "krutrim-2": 26,
        "sarvam-m": 18,
        "llama-3.3-70b-instruct": 14,
        "gpt-oss-120b": 12,
        "deepseek-v3.2": 10,
        "krutrim-spectre-v2": 8,
        "gemini-2.5-flash": 7,
        "airavata-7b": 5,
    },
    keys=(
        DemoKey("production", "key_nimbu_production", 70),
        DemoKey("nightly batch", "key_nimbu_batch", 10, models={"airavata-7b": 2, "qwen3-235b-a22b": 3}),
        DemoKey("intern", "key_nimbu_intern", 12, budgeted=True),
        DemoKey("own OpenAI key", "key_nimbu_own", 8, byok=True, models={"gpt-5-mini": 1}),
    ),
    weekdays=(0.95, 1.0, 1.0, 1.0, 0.9, 0.42, 0.3),
    hours=_OFFICE,
)
AGENCY = DemoOrg(
    org="org_kolamstudio",
    name="Kolam Studio",
    email="accounts@kolam.example",
    requests_a_day=440,
    live_share=37,
    models={
        "claude-sonnet-4.5": 10,
        "gemini-2.5-flash": 22,
        "gpt-5-mini": 18,
        "sarvam-105b": 16,
        "sarvam-m": 14,
        "llama-3.3-70b-instruct": 12,
        "qwen3-235b-a22b": 8,
    },
    keys=(
        DemoKey("client Saffron", "key_kolam_saffron", 52),
        DemoKey("client Monsoon", "key_kolam_monsoon", 40),
        DemoKey("own Anthropic key", "key_kolam_own", 8, byok=True, models={"claude-sonnet-4.5": 1}),
    ),
    weekdays=(1.0, 1.0, 0.97, 1.0, 0.95, 0.18, 0.07),
    hours=_AGENCY,
    runs_dry=True,
)
TRIAL = DemoOrg(
    org="org_asharao",
    name="Asha Rao",
    email="asha@rao.example",
    requests_a_day=46,
    live_share=5,
    models={"krutrim-2": 5, "sarvam-m": 3, "airavata-7b": 2},
    keys=(
        DemoKey("trial", "key_asha_trial", 88, tier="trial"),
        DemoKey("first steps", "key_asha_first", 12),
    ),
    weekdays=(0.7, 0.7, 0.75, 0.7, 0.8, 1.0, 1.0),
    hours=_EVENINGS,
)

ORGS = (STARTUP, AGENCY, TRIAL)
OUTAGE = Outage("krutrim", days_ago=11, from_hour=13, until_hour=18)


def models() -> set[str]:
    """Return every model that somebody on the platform uses."""
    used = {model for org in ORGS for model in org.models}
    return used | {model for org in ORGS for key in org.keys for model in key.models or ()}
