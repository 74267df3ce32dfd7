"""One product, one provider, and each gateway of the examples in its turn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.catalog.apply import parse_file
from pipeline.contract import SCHEMAS
from tests.support.gateway.examples import BUILDERS, RATES_OF_EXAMPLES, ExampleGateway, gateway_before
from tests.support.gateway.platform import Platform, product_for_gateways
from tests.support.gateway.provider import provider


@pytest.fixture(scope="session", params=BUILDERS)
def command(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of a gateway, built; the tests that ask are skipped where its toolchain is not there."""
    return BUILDERS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """One product for all tests here; each test has its own org."""
    index = json.loads((SCHEMAS / "corpus" / "index.json").read_text(encoding="utf-8"))
    known = {rate.route for rate in RATES_OF_EXAMPLES}
    of_corpus = parse_file(json.dumps({"rates": index["rates"]}), "rates.json")
    more = [rate for rate in of_corpus if rate.route not in known]
    with product_for_gateways("metering-examples-", [*RATES_OF_EXAMPLES, *more]) as platform:
        yield platform


@pytest.fixture(scope="session")
def upstream(platform: Platform) -> Iterator[str]:
    """The URL of the provider."""
    with provider(platform.product.home) as url:
        yield url


@pytest.fixture(scope="session")
def gateway(command: list[str], platform: Platform, upstream: str) -> Iterator[ExampleGateway]:
    """A gateway that runs before the product."""
    with gateway_before(platform, command, upstream, f"example-{Path(command[0]).name}") as gateway:
        gateway.until(ready=True)
        yield gateway
        gateway.stop()
