"""What an operator sees: readiness, lags, metrics, log lines, and the screen of `metering status`."""

from __future__ import annotations

import json
import time

from pipeline import topics
from pipeline.kafka.admin import partitions_of
from pipeline.partitioning import partition_of
from pipeline.settings import Settings
from pipeline.status import brokers
from pipeline.status.found import Backlog, KafkaFound, LastVerify
from pipeline.telemetry import shown_by
from tests.support.deploy import shown_otherwise
from tests.support.product.deployment import PARTITIONS, Deployment
from tests.support.product.finished import finished
from tests.support.product.processes import Role


def test_every_role_is_ready_and_nothing_is_behind_by_the_brokers_own_ends(deployed: Deployment) -> None:
    worker, server = deployed.product.workers[0], deployed.product.server
    assert server is not None

    def lags(role: Role, part: str) -> list[str]:
        lines = deployed.status(role).text.splitlines()
        return [line for line in lines if line.startswith(f'metering_lag_offsets{{part="{part}"')]

    def is_done() -> bool:
        # Markers of transactions, which end what each topic has, are no work that waits.
        found = [lags(role, part) for part, role in parts.items()]
        return list(map(len, found)) == [3 * PARTITIONS, PARTITIONS, PARTITIONS, 1] and all(
            line.endswith(" 0.0") for lines in found for line in lines
        )

    parts = {"worker": worker, "sink": server, "mail": server, "notary": server}
    deployed.until(is_done)
    for role in (worker, server):
        text = deployed.status(role).text
        assert shown_otherwise(text, shown_by(role.command)) == []
        for path in ("/livez", "/readyz", "/healthz"):
            answer = deployed.status(role, path)
            assert answer.status_code == 200, answer.text
    assert deployed.status(server, "/readyz").json()["routes_away"] == []


def test_prometheus_learns_of_lags_replicas_and_what_the_last_verify_came_to(deployed: Deployment) -> None:
    worker, server = deployed.product.workers[0], deployed.product.server
    assert server is not None

    def value(role: Role, name: str) -> float:
        (line,) = (line for line in deployed.status(role).text.splitlines() if line.startswith(f"{name} "))
        return float(line.removeprefix(f"{name} "))

    assert value(worker, "metering_verdict_lag_seconds_count") > 0
    assert value(server, "metering_sink_freshness_seconds_count") > 0
    partitions = sum(partitions_of(each, Settings(partitions=PARTITIONS)) for each in topics.TOPICS)
    assert value(server, 'metering_kafka_partitions{replicas="in sync"}') == partitions
    assert value(server, 'metering_kafka_partitions{replicas="leaderless"}') == 0
    before_s = time.time()
    assert deployed.runner.run(deployed.product.verify()).differences == []
    deployed.until(lambda: value(server, "metering_verified_timestamp_seconds") >= before_s - 0.001)
    assert value(server, "metering_verify_differences") == 0


def test_a_request_is_found_in_the_workers_log_by_the_id_in_its_answer(deployed: Deployment) -> None:
    mine = {"X-Request-Id": "Trace-0001"}
    made = deployed.call("POST", "/me/keys", "org-traced", json={"name": "traced"}, headers=mine)
    assert (made.status_code, made.headers["x-request-id"]) == (200, "Trace-0001")
    again = deployed.call("POST", "/me/keys", "org-traced", json={"name": "traced"}, headers=mine)
    assert again.json()["error"]["request_id"] == "Trace-0001"

    def traced() -> list[str]:
        lines = map(json.loads, deployed.product.workers[0].log.read_text().splitlines())
        return [line["message"] for line in lines if line.get("request_id") == "Trace-0001"]

    partition = partition_of("org-traced", PARTITIONS)
    deployed.until(lambda: len(traced()) == 2)
    assert traced() == [
        f"partition {partition}: the command create_key was carried out",
        f"partition {partition}: the command create_key was refused: duplicate_key_name",
    ]
    assert deployed.product.server is not None
    said = [json.loads(line) for line in deployed.product.server.log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in said)


def test_the_screen_of_the_deployment_shows_what_was_sent(deployed: Deployment) -> None:
    sent, kafka = 7, deployed.product.connection
    before = deployed.metering("status", "--json")
    assert (before["is_well"], before["unknown"]) == (True, {}), before
    conditions = {name: part["condition"] for name, part in before["parts"].items()}
    assert conditions.pop("books") in ("ok", "off")
    assert conditions == dict.fromkeys(
        ("kafka", "clickhouse", "worker", "sink", "mailer", "webhooks", "notary", "server"), "ok"
    )
    start_ms = time.time_ns() // 1_000_000
    deployed.publish(*(finished("org-screen", f"screen-{number}") for number in range(sent)))
    deployed.publish({**finished("org-screen", "screen-bad"), "time": "never"})

    def looked() -> KafkaFound:
        found = deployed.runner.run(brokers.look(kafka, "metering", start_ms + brokers.MINUTE_MS))
        assert isinstance(found, KafkaFound)
        return found

    deployed.until(lambda: looked().posted == sent)
    deployed.until(lambda: deployed.get("/me/activity", "org-screen")["totals"]["requests"] == sent)

    def is_done(found: KafkaFound) -> bool:
        return all(isinstance(each, Backlog) and each.total == 0 for each in found.backlogs.values())

    deployed.until(lambda: is_done(looked()))
    after = deployed.metering("status", "--json")
    assert after["is_well"], after
    assert after["debited_today"]["nano"] - before["debited_today"]["nano"] == sent * 7_500_000
    letters = [each["dead_letters"]["by_reason"].get("invalid", 0) for each in (before, after)]
    assert letters[1] - letters[0] == 1
    assert after["open_payments"] == {"unpaid_orders": 0, "is_whole": True}
    assert after["lag"]["worker"]["by_partition"].keys() == {str(each) for each in range(PARTITIONS)}
    deployed.runner.run(deployed.product.verify())
    verified = looked().verified
    assert isinstance(verified, LastVerify)
    assert (verified.differences, verified.ended_ms >= start_ms) == (0, True)
