"""Processes that end: who is told, what the runbooks show, and that it is over once they are back."""

from __future__ import annotations

import time

from tests.support.runbooks.walk import Walk


def test_one_worker_of_two_is_gone_and_then_both(walk: Walk) -> None:
    first, second = walk.product.workers
    every = ("MeteringPartitionsUnowned", "MeteringHalfDown", "MeteringDown", "MeteringNobodyCharges")
    walk.quiet(*every)
    first.kill()
    walk.fires("MeteringDown", "MeteringHalfDown", "MeteringPartitionsUnowned")
    assert f"{first.name} exited (-9)" in walk.look("MeteringDown", ROLE="worker")
    assert f"{first.name} exited (-9)" in walk.look("MeteringHalfDown")
    assert walk.do("MeteringDown", "curl localhost:PORT/livez", first, code=7, PORT="8001")
    second.kill()
    walk.fires("MeteringNobodyCharges")
    assert "exited (-9)" in walk.look("MeteringNobodyCharges", second)
    members = walk.do("MeteringNobodyCharges", "kafka-consumer-groups.sh", DEPLOYMENT="metering").text
    assert "metering.requests" in members, members
    walk.start(first, second)
    walk.over(*every)


def test_a_worker_that_starts_again_and_again(walk: Walk) -> None:
    first, second = walk.product.workers
    every = ("MeteringRestarts", "MeteringCrashLoop")
    walk.quiet(*every)
    deadline = time.monotonic() + 240
    while "MeteringCrashLoop" not in walk.firing():
        assert time.monotonic() < deadline, walk.firing()
        first.kill()
        first.start()
        walk.until(
            lambda: "ok" in walk.hands.run("status 8001", first).text or not first.running, "it starts"
        )
        time.sleep(1.5)
    assert "MeteringRestarts" in walk.firing()
    assert "worker" in walk.look("MeteringRestarts")
    walk.start()
    assert second.running
    walk.over(*every)
