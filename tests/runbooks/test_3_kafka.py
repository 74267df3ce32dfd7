"""A broker that is silent: who is told, of charging and of gateways."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.runbooks.walk import Walk


@contextmanager
def frozen(walk: Walk) -> Iterator[None]:
    """Have the broker take connections and answer nothing."""
    process = walk.product.broker.process.popen
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def test_a_broker_that_is_silent(walk: Walk) -> None:
    every = (
        *("MeteringBrokerSilent", "MeteringEndsNotCompared"),
        *("MeteringSpoolFills", "MeteringSpoolWaits"),
    )
    walk.quiet(*every)
    with frozen(walk):
        walk.fires(*every, limit_s=90)
    walk.until(
        lambda: any("Kafka answers again" in each.log.read_text() for each in walk.product.roles()),
        "a log says that Kafka answers again",
        30,
    )
    assert "worker" in walk.do("MeteringEndsNotCompared", "metering topics --acls").text
    walk.over(*every)
