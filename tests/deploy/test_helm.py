"""The Helm chart as far as it can be looked at without helm: what values may be, and what the golden files show.

tests/helm renders the chart; `make helm` does that and makes the golden files anew.
"""

from __future__ import annotations

import json
import re
import tomllib
from copy import deepcopy
from typing import Any, get_type_hints

import pytest
import yaml
from jsonschema import Draft7Validator
from kubernetes_validate import validate

from pipeline import topics
from pipeline.cli.main import program
from pipeline.operations.verify import verify
from pipeline.settings import Settings, variable
from pipeline.worker.partition import worker_group
from tests.support.deploy import DEPLOY, ROOT, read_yaml
from tests.support.helm.chart import CASES, CHART, FINGERPRINT, Manifest, fingerprint
from tests.support.helm.rendered import (
    DEFAULTS,
    GIVEN_VALUES,
    MADE,
    OBJECTS,
    ROLES,
    SCHEMA,
    container,
    given,
    merge,
    merged,
    of_kind,
    pods,
    value,
)

KUBERNETES = ("1.30", "1.34", "1.37")
"""The oldest release that the chart takes, and later ones up to the newest."""
OF_OPERATORS = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}
"""Kinds that Kubernetes does not know by itself: tests/helm looks at these."""
NAMED = {"worker", "sink", "notary"}
"""Roles whose processes are told apart by their pods' names."""
RUN = [(case, role) for case in CASES for role, _ in pods(case)]


def selects(selector: dict[str, str], pod: Manifest) -> bool:
    """Return whether labels to be matched are a pod's."""
    labels: dict[str, str] = pod["metadata"]["labels"]
    return selector.items() <= labels.items()


def test_what_the_chart_knows_of_the_settings_is_up_to_date() -> None:
    for path, text in MADE["written"]().items():
        assert path.read_text(encoding="utf-8") == text, "run python deploy/helm/schema.py"


def test_the_golden_files_are_of_this_chart() -> None:
    assert FINGERPRINT.read_text(encoding="utf-8").strip() == fingerprint(), "run make helm, and commit"


def test_the_roles_are_commands_and_read_what_the_command_reads() -> None:
    commands = {
        command.name or getattr(command.callback, "__name__", "") for command in program().registered_commands
    }
    assert ROLES.keys() - {"operator"} <= commands
    assert get_type_hints(verify)["settings"] is ROLES["verify"]
    roles = (ROOT / "pipeline" / "cli" / "roles.py").read_text(encoding="utf-8")
    for role, reads in ROLES.items():
        if role in ("operator", "verify"):
            continue
        body = roles[roles.index(f"def {role}(") :].split("@app.command")[0]
        wanted = "settings_for(data_dir)" if reads is Settings else f"role_settings_for({reads.__name__}, "
        assert re.search(rf"\b{re.escape(wanted)}", body), role


def test_the_schema_of_the_values_is_one_and_takes_the_values() -> None:
    Draft7Validator.check_schema(SCHEMA)
    for case in CASES:
        assert [error.message for error in Draft7Validator(SCHEMA).iter_errors(merged(case))] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"setings": {}},
        {"settings": {"METERING_KAFKA": "kafka://k:9092"}},
        {"settings": {"METERING_COMMAND_KEY": "k" * 32}},
        {"settings": {"METERING_CLICKHOUSE_URL": "http://u:p@h/d"}},
        {"settings": {"METERING_WORKER_PORT": 9001}},
        {"settings": {"METERING_PARTITIONS": 0}},
        {"settings": {"METERING_PARTITIONS": "12"}},
        {"worker": {"settings": {"METERING_PUBLIC_URL": "https://b.example"}}},
        {"worker": {"secrets": {"METERING_SESSION_SECRET": {"name": "metering", "key": "s"}}}},
        {"sink": {"secrets": {"METERING_COMMAND_KEY": {"name": "metering", "key": "c"}}}},
        {"server": {"secrets": {"METERING_NOTARY_KEY": {"name": "metering", "key": "n"}}}},
        {"secrets": {"METERING_COMMAND_KEY": "k" * 32}},
        {"secrets": {"METERING_COMMAND_KEY": {"name": "metering"}}},
        {"server": {"service": {"type": "ExternalName"}}},
        {"sink": {"autoscaling": {"enabled": True}}},
        {"verify": {"schedule": "daily"}},
        {"verify": {"schedule": "0 4 1 *"}},
        {"verify": {"secrets": {"METERING_COMMAND_KEY": {"name": "metering", "key": "c"}}}},
        {"files": {"../etc": "s"}},
    ],
    ids=json.dumps,
)
def test_values_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    assert not Draft7Validator(SCHEMA).is_valid(merge(deepcopy(DEFAULTS), wrong))


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("case", CASES)
def test_kubernetes_takes_every_object(case: str, version: str) -> None:
    for each in OBJECTS[case]:
        if each["kind"] not in OF_OPERATORS:
            assert validate(each, version, strict=True) == version


def test_the_golden_files_show_every_role() -> None:
    assert {role for case, role in RUN if case == "minimal"} == ROLES.keys() - {"operator", "notary"}
    assert {role for case, role in RUN if case == "full"} == ROLES.keys()


def test_a_mistake_in_an_object_would_be_caught() -> None:
    wrong = deepcopy(of_kind("minimal", "Deployment")["metering-server"])
    wrong["spec"]["template"]["spec"]["enableServiceLink"] = False
    with pytest.raises(Exception, match="enableServiceLink"):
        validate(wrong, KUBERNETES[-1], strict=True)


@pytest.mark.parametrize(("case", "role"), RUN)
def test_a_role_gets_what_the_settings_say_that_it_reads_and_nothing_else(role: str, case: str) -> None:
    values = merged(case)
    set_somewhere = {
        *values["settings"],
        *values["secrets"],
        *values[role]["settings"],
        *values[role]["secrets"],
    }
    set_by_the_chart = {variable(name) for name in MADE["GIVEN"]}
    named = {"METERING_INSTANCE"} if role in NAMED else set()
    read = {variable(name) for name in MADE["given_to"](role)}
    got = [each["name"] for each in container(case, role)["env"]]
    assert len(got) == len(set(got))
    assert set(got) == read & (set_somewhere | set_by_the_chart | named)


@pytest.mark.parametrize(("case", "role"), RUN)
def test_a_role_understands_what_it_isgiven(role: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value as it stands there, with a text for what comes from a Secret and the pod's name for its own."""
    kept = {"METERING_CLICKHOUSE_URL": "https://u:p@h:8443/d", "METERING_SMTP_URL": "smtp://u:p@h:587"}
    for each in container(case, role)["env"]:
        origin = each.get("valueFrom", {})
        text = each.get(
            "value", "metering-worker-0" if "fieldRef" in origin else kept.get(each["name"], "s" * 32)
        )
        if each["name"].endswith("_FILE"):
            continue
        monkeypatch.setenv(each["name"], text)
    settings = ROLES[role]()
    assert settings.partitions == merged(case)["settings"]["METERING_PARTITIONS"]
    assert settings.host == MADE["GIVEN"]["host"]
    assert (settings.instance == "metering-worker-0") is (role in NAMED)
    if isinstance(settings, Settings):
        assert not settings.server_sink
        assert settings.address_requests_per_s == merged(case)["settings"].get(
            "METERING_ADDRESS_REQUESTS_PER_S", Settings.model_fields["address_requests_per_s"].default
        )


def test_the_key_that_days_are_signed_with_is_the_notary_s_alone() -> None:
    """Named for all, as it is in *full*, and read by a server that has it: strangers reach that one."""
    assert "METERING_NOTARY_KEY" in GIVEN_VALUES["full"]["secrets"]
    assert "notary_key" in ROLES["server"].model_fields
    having = {role for role, _ in pods("full") if "METERING_NOTARY_KEY" in given("full", role)}
    assert having == {"notary"}


def test_there_is_no_notary_without_its_key() -> None:
    assert "METERING_NOTARY_KEY" not in GIVEN_VALUES["minimal"]["secrets"]
    assert "metering-notary" not in {each["metadata"]["name"] for each in OBJECTS["minimal"]}


def test_a_role_s_own_value_wins_over_the_one_for_all() -> None:
    levels = {role: value("full", role, "METERING_LOG_LEVEL") for role in ROLES}
    assert levels == {**dict.fromkeys(ROLES, "warning"), "worker": "info"}
    secret = given("full", "sink")["METERING_KAFKA_PASSWORD"]
    assert secret["valueFrom"] == {"secretKeyRef": {"name": "kafka-sink", "key": "password"}}


@pytest.mark.parametrize("case", CASES)
def test_a_secret_is_only_ever_a_reference(case: str) -> None:
    secret = {variable(name) for name in MADE["secret_names"]()}
    assert {"METERING_CLICKHOUSE_URL", "METERING_KAFKA_PASSWORD", "METERING_NOTARY_KEY"} <= secret
    for role, _ in pods(case):
        for each in container(case, role)["env"]:
            assert (each["name"] in secret) is ("secretKeyRef" in each.get("valueFrom", {})), each["name"]
    assert not of_kind(case, "Secret", "ConfigMap")


@pytest.mark.parametrize(("case", "role"), RUN)
def test_a_pod_keeps_to_the_restricted_standard_and_can_do_nothing_it_need_not(role: str, case: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, and more."""
    spec = dict(pods(case))[role]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False, "a Service's link would be taken for a setting"
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & spec.keys()
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    user, group = spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsGroup"]
    assert f"\nUSER {user}:{group}\n" in dockerfile
    assert container(case, role)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all(volume.keys() - {"name"} <= {"emptyDir", "secret"} for volume in spec["volumes"])
    assert container(case, role)["resources"]["limits"].keys() == {"memory"}


@pytest.mark.parametrize(
    ("case", "role"),
    [(case, role) for case, role in RUN if role in ("worker", "sink", "server", "notary")],
)
def test_only_a_process_that_is_not_alive_is_started_again(role: str, case: str) -> None:
    it = container(case, role)
    asked = {probe: it[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe: each["path"] for probe, each in asked.items()} == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    # An answer that comes late is no answer yet: on a node short of CPU it would take all servers away at once.
    assert it["readinessProbe"]["failureThreshold"] >= 3
    ports = {port["name"]: port["containerPort"] for port in it["ports"]}
    status = "METERING_SERVER_STATUS_PORT" if role == "server" else "METERING_WORKER_PORT"
    assert {each["port"] for each in asked.values()} == {"status"}
    assert str(ports["status"]) == value(case, role, status)
    if role == "server":
        assert str(ports["http"]) == value(case, role, "METERING_PORT")


def test_a_server_has_time_for_its_delay_before_it_is_killed() -> None:
    grace_s = {case: dict(pods(case))["server"]["spec"]["terminationGracePeriodSeconds"] for case in CASES}
    assert grace_s["minimal"] == 3 + DEFAULTS["server"]["terminationGracePeriodSeconds"]
    assert grace_s["full"] == 8 + DEFAULTS["server"]["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("case", CASES)
def test_the_jobs_run_before_the_roles_and_once_for_each_release(case: str) -> None:
    jobs = of_kind(case, "Job")
    jobs.pop("metering-operator", None)
    assert jobs.keys() == {"metering-topics", "metering-migrate"}
    for name, job in jobs.items():
        notes = job["metadata"]["annotations"]
        assert notes["helm.sh/hook"] == "pre-install,pre-upgrade"
        before = of_kind(case, "NetworkPolicy")[name]["metadata"]["annotations"]
        assert before["helm.sh/hook"] == notes["helm.sh/hook"]
        assert int(before["helm.sh/hook-weight"]) < int(notes["helm.sh/hook-weight"])
        # No uninstallation removes what a hook made.
        assert "hook-succeeded" in before["helm.sh/hook-delete-policy"]


@pytest.mark.parametrize("case", CASES)
def test_what_selects_pods_selects_the_role_s_and_no_others(case: str) -> None:
    by_role = dict(pods(case))
    chosen: dict[str, list[str]] = {kind: [] for kind in ("Service", "NetworkPolicy", "PodDisruptionBudget")}
    for each in OBJECTS[case]:
        if each["kind"] in chosen:
            spec = each["spec"]
            asked = spec["podSelector"] if "podSelector" in spec else spec["selector"]
            labels = asked.get("matchLabels", asked)
            found = [role for role, pod in by_role.items() if selects(labels, pod)]
            # Its policy is there before the first of its pods.
            (role,) = found or ["operator"]
            assert each["metadata"]["name"] in (f"metering-{role}", f"metering-{role}-status")
            chosen[each["kind"]].append(role)
    running = {"worker", "sink", "server", "notary"} & by_role.keys()
    assert sorted(chosen["NetworkPolicy"]) == sorted({*by_role, "operator"})
    assert sorted(chosen["PodDisruptionBudget"]) == sorted(running)
    assert sorted(chosen["Service"]) == sorted([*running, "server"])


def test_workers_are_scaled_by_the_lag_of_their_own_group_up_to_the_partitions() -> None:
    (scaled,) = of_kind("full", "ScaledObject").values()
    assert scaled["spec"]["scaleTargetRef"]["name"] in of_kind("full", "StatefulSet")
    assert "replicas" not in of_kind("full", "StatefulSet")["metering-worker"]["spec"]
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["metadata"] == {
        "bootstrapServers": "kafka-0.kafka:9093,kafka-1.kafka:9093,kafka-2.kafka:9093",
        "consumerGroup": worker_group("mumbai"),
        "topic": topics.REQUESTS,
        "lagThreshold": "1000000",
        "offsetResetPolicy": "earliest",
    }
    assert not of_kind("minimal", "ScaledObject")


def test_prometheus_finds_each_role_under_the_name_that_alerts_know_it_by() -> None:
    (monitor,) = of_kind("full", "ServiceMonitor").values()
    (endpoint,) = monitor["spec"]["endpoints"]
    found = set()
    for service in of_kind("full", "Service").values():
        labels = service["metadata"]["labels"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
        if endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]:
            found.add(labels[monitor["spec"]["jobLabel"]])
    assert found == {"worker", "sink", "server", "notary"}


def test_the_rules_are_prometheus_own_files() -> None:
    asked = read_yaml(DEPLOY / "prometheus" / "prometheus.yml")["rule_files"]
    linked = {path.name: path for path in (CHART / "rules").iterdir()}
    assert linked.keys() == set(asked)
    for name, path in linked.items():
        assert path.is_symlink()
        assert path.resolve() == DEPLOY / "prometheus" / name


def test_the_chart_is_of_the_product_s_release() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == project["version"]
    assert chart["kubeVersion"] == f">={KUBERNETES[0]}.0-0"
