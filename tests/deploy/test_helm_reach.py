"""The Helm chart's network policies, as its golden files show them, and the job that only they are for: who reaches whom."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from pipeline.accounts.webhooks import is_public
from tests.support.deploy import DEPLOY, read_yaml
from tests.support.helm.chart import CASES
from tests.support.helm.rendered import container, given, of_kind, reached


def test_nobody_but_who_is_named_reaches_a_pod_and_metrics_are_not_on_the_public_port() -> None:
    for policy in of_kind("full", "NetworkPolicy").values():
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    server = of_kind("full", "NetworkPolicy")["metering-server"]["spec"]
    assert [port["port"] for rule in server["ingress"] for port in rule["ports"]] == ["status", "http"]
    assert all(rule["from"] for rule in server["ingress"])
    for role in ("worker", "notary"):
        assert reached("full", role) == [[53, 53], [9093]]
    (public,) = of_kind("full", "Service")["metering-server"]["spec"]["ports"]
    assert public["targetPort"] == "http"


def test_a_server_reaches_orgs_webhooks_and_razorpay_on_the_internet_and_its_mail_server_anywhere() -> None:
    """Beside DNS, Kafka and ClickHouse. Whatever address the sender of webhooks refuses, the network refuses too."""
    *_, internet, mail = of_kind("full", "NetworkPolicy")["metering-server"]["spec"]["egress"]
    assert reached("full", "server") == [[53, 53], [9093], [8123, 8443], [443], [465, 587]]
    assert reached("full", "operator") == [[53, 53], [9093], [8123, 8443], [443]]
    assert "to" not in mail
    blocks = [peer["ipBlock"] for peer in internet["to"]]
    for address in ("1.1.1.1", "2606:4700::1"):
        assert _is_in(address, blocks)
    for address in (
        *("10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "127.0.0.1"),
        *("fd00::1", "fe80::1"),
    ):
        assert not is_public(ip_address(address))
        assert not _is_in(address, blocks), address


def _is_in(address: str, blocks: list[dict[str, Any]]) -> bool:
    found = ip_address(address)
    return any(
        found in ip_network(block["cidr"]) and not any(found in ip_network(hole) for hole in block["except"])
        for block in blocks
    )


@pytest.mark.parametrize("case", CASES)
def test_the_books_are_verified_by_the_clock_more_often_than_an_alert_asks_for_it(case: str) -> None:
    (job,) = of_kind(case, "CronJob").values()
    spec = job["spec"]
    assert container(case, "verify")["args"] == (["verify"] if case == "minimal" else ["verify", "--full"])
    assert spec["concurrencyPolicy"] == "Forbid", "two runs would fence each other at their checkpoints"
    minute, hour, *daily = spec["schedule"].split()
    assert (minute.isdigit(), hour.isdigit(), daily) == (True, True, ["*", "*", "*"])
    assert spec["timeZone"] == "Asia/Kolkata"
    (alert,) = (rule for rule in _alerts() if rule["alert"] == "MeteringNotVerified")
    alert_after_s = int(re.findall(r"> (\d+) \* 3600", alert["expr"])[0]) * 3600
    # A run has to end by then, and one that hangs must not keep the next one from its turn.
    assert alert_after_s > 24 * 3600
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 24 * 3600
    assert spec["startingDeadlineSeconds"] < 24 * 3600
    assert "annotations" not in job["metadata"], "no hook: it is there as long as the release is"


def test_what_verifies_reaches_kafka_and_clickhouse_as_its_own_user_and_nobody_reaches_it() -> None:
    assert reached("full", "verify") == [[53, 53], [9093], [8123, 8443]]
    assert of_kind("full", "NetworkPolicy")["metering-verify"]["spec"]["ingress"] == []
    its = given("full", "verify")
    for name, secret in (("KAFKA_PASSWORD", "kafka-audit"), ("CLICKHOUSE_URL", "metering-reader")):
        assert its[f"METERING_{name}"]["valueFrom"]["secretKeyRef"]["name"] == secret
    assert not {"METERING_COMMAND_KEY", "METERING_SESSION_SECRET", "METERING_NOTARY_KEY"} & its.keys()


def _alerts() -> list[dict[str, Any]]:
    groups = read_yaml(DEPLOY / "prometheus" / "alerts.yml")["groups"]
    return [rule for group in groups for rule in group["rules"]]
