"""What the tests of this folder share: one running product under traffic. Each does its worst to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from pipeline.accounts.commands import SignUp
from pipeline.local.broker import Broker
from tests.support import parts
from tests.support.product.processes import product
from tests.support.product.storm import PARTITIONS, SIGNED_UP, SIGNUP_NANO, Storm, storming


@pytest.fixture(scope="package")
def storm_broker() -> Iterator[Broker]:
    """The broker of this folder."""
    with parts.own_broker() as broker:
        yield broker


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def storm(storm_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Storm]:
    """The running product of this folder, with rates, some orgs signed up, and traffic connected."""
    home = tmp_path_factory.mktemp("storm")
    async with (
        product(storm_broker, home, workers=2, partitions=PARTITIONS) as running,
        storming(running, storm_broker) as storm,
    ):
        for org in SIGNED_UP:
            await storm.client.send(SignUp(f"signup-{org}", org, org, f"{org}@example.in"))
            storm.credited_nano[org] += SIGNUP_NANO
        yield storm
