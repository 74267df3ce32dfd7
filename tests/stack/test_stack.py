"""docker-compose.yml and deploy/Dockerfile as they stand, in containers: healthy, exact under the demo's traffic, killed, stopped.

Broker, ClickHouse, two workers, sink and server come up in containers. The demo's history and its live traffic go through
them from this machine, by the ports that a gateway beside the stack uses. Each part is killed in turn while traffic goes
on, and the engine starts it again. In the end every event is charged once, balances are right to the nano-rupee, and
`metering verify` is clean.

Not in `make test`: `make stack` runs it (tests/support/stack), which has the engine and the images ready.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support.stack.composed import Container, Stack, eventually
from tests.support.stack.demo import DemoTraffic, under_way

COMPOSE = os.environ.get("METERING_TEST_COMPOSE", "").split()
ROUNDS = int(os.environ.get("METERING_TEST_STACK_ROUNDS", "2"))
KILLED = ("worker", "sink", "server", "kafka", "clickhouse")
ROLES = ("worker", "sink", "server")
ONCE = ("topics", "migrate")
BETWEEN_S = 5.0
"""Traffic between two kills."""
SHOWN_LIMIT_S = 120.0
_ALARMING = re.compile(r"\bERROR\b|\bCRITICAL\b|\bFATAL\b|Traceback|Exception")

pytestmark = pytest.mark.skipif(not COMPOSE, reason="needs an engine of containers and images: make stack")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, up and healthy, with two workers; taken down at the end."""
    made = Stack(COMPOSE, os.environ, tmp_path_factory.mktemp("stack"))
    try:
        print(f"\nhealthy {made.up('--scale', 'worker=2'):.0f} s after `docker compose up`")
        yield made
    except BaseException:
        print(_last_words(made))
        raise
    finally:
        began_s = time.monotonic()
        made.down()
        print(f"down in {time.monotonic() - began_s:.0f} s")


@pytest.fixture(scope="module")
def demo(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoTraffic]:
    """The demo's history in the stack, and its traffic under way."""
    with under_way(stack, tmp_path_factory.mktemp("demo")) as traffic:
        yield traffic


def test_a_healthy_start_says_nothing_alarming(stack: Stack) -> None:
    stack.until_all_answers()
    said = {name: _ALARMING.findall(stack.logs(name)) for name in (*KILLED, *ONCE)}
    assert {name: words for name, words in said.items() if words} == {}, _last_words(stack)
    for name in ONCE:
        assert [each.exit_code for each in stack.containers(name)] == [0]
    running = [each for name in KILLED for each in stack.containers(name)]
    assert len(running) == len(KILLED) + 1
    assert {each.health for each in running} == {"healthy"}


def test_each_part_is_killed_in_turn_under_traffic_and_the_books_stay_exact(
    stack: Stack, demo: DemoTraffic
) -> None:
    _verified(stack)
    for number in range(ROUNDS):
        for name in KILLED:
            _killed(stack, name, number)
    demo.stop()
    due = demo.due()
    eventually(lambda: demo.shown() == due, f"the API shows {due}", SHOWN_LIMIT_S)
    _verified(stack)
    print(f"exact: {sum(each.requests for each in due.values())} requests, {due}")
    print({each.name: f"{each.restarts} restarts" for name in KILLED for each in stack.containers(name)})


def _killed(stack: Stack, name: str, number: int) -> None:
    time.sleep(BETWEEN_S)
    began_s = time.monotonic()
    victim = stack.kill(name)
    eventually(lambda: _was_started_again(stack, victim), f"{victim.name} was started again", 60)
    stack.until_all_answers()
    answers_s = time.monotonic() - began_s
    stack.until_started_again(victim)
    healthy_s = time.monotonic() - began_s
    print(
        f"round {number + 1}: {name} killed: all answers after {answers_s:.1f} s, healthy after {healthy_s:.1f} s"
    )


def _was_started_again(stack: Stack, victim: Container) -> bool:
    now = {each.name: each for each in stack.containers()}[victim.name]
    return now.running and now.started != victim.started


def _verified(stack: Stack) -> None:
    done = stack.metering("verify")
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stderr.strip().splitlines()[-1])


def test_prometheus_finds_every_part_and_its_rules_can_be_evaluated(stack: Stack) -> None:
    if "prom/prometheus" in os.environ["METERING_TEST_ABSENT_IMAGES"]:
        pytest.skip("there is no image of Prometheus here")
    stack.up("prometheus")
    watched = {(job, "up") for job in (*ROLES, "clickhouse", "prometheus")}
    eventually(
        lambda: {(each["labels"]["job"], each["health"]) for each in _targets(stack)} == watched,
        "all are up",
        60,
    )
    rules = [rule for group in _prometheus(stack, "rules")["groups"] for rule in group["rules"]]
    eventually(lambda: _rules_are_healthy(stack), "all rules were evaluated", 120)
    print(f"Prometheus: {len(_targets(stack))} targets up, {len(rules)} rules healthy")


def _targets(stack: Stack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _prometheus(stack, "targets")["activeTargets"]
    return found


def _rules_are_healthy(stack: Stack) -> bool:
    groups = _prometheus(stack, "rules")["groups"]
    return {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}


def _prometheus(stack: Stack, of: str) -> Any:
    url = f"http://127.0.0.1:{stack.variables['PROMETHEUS_PORT']}/api/v1/{of}"
    return httpx2.get(url, trust_env=False, timeout=10).json()["data"]


def test_a_role_that_is_told_to_stop_ends_in_time_and_well(stack: Stack) -> None:
    for name in ROLES:
        began_s = time.monotonic()
        stack.compose("stop", name)
        took_s = time.monotonic() - began_s
        codes = {each.exit_code for each in stack.containers(name)}
        print(f"{name} stopped in {took_s:.1f} s, code {codes}")
        assert codes == {0}


def _last_words(stack: Stack) -> str:
    return "\n".join(f"--- {name}\n{stack.logs(name)[-2000:]}" for name in (*KILLED, *ONCE))
