"""The one product of this folder, and the Prometheus that looks at it. Its files run in the order of their names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.board.prometheus_server import running_prometheus
from tests.support.product.opened_world import opened_world
from tests.support.prometheus import program
from tests.support.runbooks.hands import Hands
from tests.support.runbooks.hurried import SCRAPE, write_hurried_rules
from tests.support.runbooks.load import ORGS, Load
from tests.support.runbooks.walk import Walk

CATALOG = """
rates:
  - {model: krutrim-2, provider: krutrim, effective_from: "2026-01-01T00:00:00+05:30",
     input_inr_per_mtok: "12.5", cached_input_inr_per_mtok: "3.125", output_inr_per_mtok: "50"}
"""


@pytest.fixture(autouse=True)
def _settings_of_nobody() -> None:
    """The processes here get their settings from the shop."""


@pytest.fixture(scope="package")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """Broker, ClickHouse, two workers, sink, server, Razorpay, a mail server and a gateway, under load and watched."""
    prometheus = program("prometheus")
    if prometheus is None:
        pytest.skip("prometheus is not installed (Debian's package prometheus has it)")
    home = tmp_path_factory.mktemp("runbooks")
    with opened_world(home, workers=2, METERING_ENDS_EVERY_S="2") as world:
        (home / "catalog.yaml").write_text(CATALOG)
        world.metering("catalog", "apply", str(home / "catalog.yaml"))
        for org in (*ORGS, "org_spool"):
            world.org(org)
        load = Load(world, home / "spool")
        load.start()
        targets = {"gateway": [f"127.0.0.1:{load.gateway_port}"]}
        for role in world.product.roles():
            targets.setdefault(role.command, []).append(role.status_url.removeprefix("http://"))
        rules = write_hurried_rules(home)
        with running_prometheus(prometheus, home, targets, rules=rules, interval=SCRAPE) as watching:
            hands = Hands(world.product, world.shop.environment, home)
            walking = Walk(prometheus=watching, hands=hands, world=world, load=load)
            walking.seen(sum(map(len, targets.values())))
            yield walking
        load.stop()
