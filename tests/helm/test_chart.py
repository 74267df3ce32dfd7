"""The Helm chart rendered by helm itself, and what it renders held against Kubernetes' and the operators' own schemas.

`make helm` runs it: building helm takes minutes, and Go. What can be told from the golden files alone is in
tests/deploy/test_helm.py, for every run.
"""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import validate

from pipeline.settings import CommonSettings, Settings, variable
from tests.support.deploy import DEPLOY, ROOT, read_yaml
from tests.support.helm.chart import (
    BUILT,
    CASES,
    CHART,
    GOLDEN,
    Manifest,
    golden,
    objects,
    rendered,
    run_helm,
    template,
    tool,
)

if tool("helm") is None:
    pytest.skip("helm is not here: `make helm` builds it, where there is Go", allow_module_level=True)

MADE = runpy.run_path(str(DEPLOY / "helm" / "schema.py"))
ROLES: dict[str, type[CommonSettings]] = MADE["ROLES"]
KUBERNETES = ("1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
OF_OPERATORS = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}
MINIMAL = GOLDEN / "minimal.values.yaml"
REFERENCE = {"name": "metering", "key": "key"}
SAMPLES = {
    "METERING_EVENTS_KEPT_FROM": "2026-03",
    "METERING_ACCEPTED_TOPICS": {"metering.requests": "0" * 32},
}


def sample(name: str) -> Any:
    """Return a value for a setting that its schema takes."""
    schema = MADE["settings_schema"](Settings.model_fields)["properties"][name]
    if name in SAMPLES:
        return SAMPLES[name]
    known = {"boolean": True, "integer": schema.get("maximum", 1_000_000), "number": schema.get("maximum")}
    default = Settings.model_fields[name.removeprefix("METERING_").lower()].default
    return known.get(schema["type"], default or f"some {name}")


def everything() -> dict[str, Any]:
    """Return values that set all that can be set."""
    settings = MADE["settings_schema"](Settings.model_fields)["properties"]
    secrets = MADE["secrets_schema"](Settings.model_fields)["properties"]
    return {
        "image": {"repository": "metering"},
        "operator": {"args": ["verify"]},
        "settings": {name: sample(name) for name in settings},
        "secrets": dict.fromkeys(secrets, REFERENCE),
    }


def with_values(home: Path, values: dict[str, Any]) -> Path:
    """Write a values file."""
    file = home / "values.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return file


def environment(each: Manifest) -> dict[str, Any]:
    """Return what a workload's container is given, by name."""
    spec = each["spec"]["jobTemplate"]["spec"] if each["kind"] == "CronJob" else each["spec"]
    (only,) = spec["template"]["spec"]["containers"]
    return {entry["name"]: entry for entry in only["env"]}


def workloads(text: str) -> dict[str, Manifest]:
    """Return each role's workload."""
    found = [
        each for each in objects(text) if each["kind"] in ("StatefulSet", "Deployment", "Job", "CronJob")
    ]
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in found}


def test_helm_finds_nothing_to_say() -> None:
    for case in CASES:
        said = run_helm("lint", "--strict", str(CHART), "--values", str(GOLDEN / f"{case}.values.yaml"))
        assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("case", CASES)
def test_the_golden_files_are_what_helm_renders(case: str) -> None:
    assert rendered(GOLDEN / f"{case}.values.yaml") == (GOLDEN / f"{case}.yaml").read_text(encoding="utf-8")


def test_a_role_is_given_every_setting_that_it_reads_once_all_are_set(tmp_path: Path) -> None:
    given = workloads(rendered(with_values(tmp_path, everything())))
    assert given.keys() == ROLES.keys()
    for role in ROLES:
        got = environment(given[role])
        # Only a StatefulSet's pods keep their names, and an instance has to keep its own.
        without = set() if given[role]["kind"] == "StatefulSet" else {"METERING_INSTANCE"}
        assert got.keys() == {variable(name) for name in MADE["given_to"](role)} - without


def test_values_reach_a_role_as_they_are(tmp_path: Path) -> None:
    values = everything()
    got = environment(workloads(rendered(with_values(tmp_path, values)))["server"])
    for name, value in values["settings"].items():
        assert got[name]["value"] == (
            value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        ), name


def test_false_and_zero_of_a_role_win_over_what_stands_for_all(tmp_path: Path) -> None:
    values = everything()
    values["server"] = {"settings": {"METERING_WEAK_SECRETS": False, "METERING_STOP_DELAY_S": 0}}
    got = {
        role: environment(each) for role, each in workloads(rendered(with_values(tmp_path, values))).items()
    }
    assert got["server"]["METERING_WEAK_SECRETS"]["value"] == "false"
    assert got["server"]["METERING_STOP_DELAY_S"]["value"] == "0"
    assert got["worker"]["METERING_WEAK_SECRETS"]["value"] == "true"


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("METERING_KAFKA_URL", "worker"),
        ("METERING_COMMAND_KEY", "worker"),
        ("METERING_CLICKHOUSE_URL", "sink"),
        ("METERING_SESSION_SECRET", "server"),
    ],
)
def test_what_a_role_cannot_start_without_is_told_before_anything_is_installed(
    name: str, role: str, tmp_path: Path
) -> None:
    values = read_yaml(MINIMAL)
    for where in ("settings", "secrets"):
        values[where].pop(name, None)
    said = template(with_values(tmp_path, values))
    assert said.returncode != 0
    assert f"needs {name}: " in said.stderr
    if name in ("METERING_SESSION_SECRET", "METERING_COMMAND_KEY"):
        assert f"{role} needs {name}" in said.stderr or name == "METERING_COMMAND_KEY"


def test_an_image_has_to_be_named(tmp_path: Path) -> None:
    said = template(with_values(tmp_path, {**read_yaml(MINIMAL), "image": {}}))
    assert said.returncode != 0
    assert "image.repository: name where you pushed the image" in said.stderr


def test_a_secret_s_value_among_the_settings_is_refused(tmp_path: Path) -> None:
    values = read_yaml(MINIMAL)
    values["settings"]["METERING_COMMAND_KEY"] = "hush" * 8
    said = template(with_values(tmp_path, values))
    assert said.returncode != 0
    assert "METERING_COMMAND_KEY" in said.stderr
    assert "hush" not in said.stderr


def test_more_workers_than_partitions_are_refused(tmp_path: Path) -> None:
    values = {**read_yaml(MINIMAL), "worker": {"autoscaling": {"enabled": True, "maxReplicas": 13}}}
    said = template(with_values(tmp_path, values))
    assert said.returncode != 0
    assert "worker.autoscaling.maxReplicas is above METERING_PARTITIONS (12)" in said.stderr


def test_names_are_ones_that_kubernetes_and_kafka_take(tmp_path: Path) -> None:
    """However long the release's name: helm allows 53 characters, and dots."""
    values = {**read_yaml(MINIMAL), "fullnameOverride": "in.mumbai-1." + "x" * 41}
    for each in objects(rendered(with_values(tmp_path, values))):
        name = each["metadata"]["name"]
        assert re.fullmatch("[a-z0-9-]{1,63}", name)
        if each["kind"] == "StatefulSet":
            # Its hash comes after it, in a label of 63 characters.
            assert len(name) <= 63 - 11
            assert CommonSettings(instance=f"{name}-123").instance


def test_a_network_without_policies_and_a_release_without_jobs(tmp_path: Path) -> None:
    off = {"enabled": False}
    values = {**read_yaml(MINIMAL), "networkPolicy": off, "topics": off, "migrate": off, "verify": off}
    kinds = {each["kind"] for each in objects(rendered(with_values(tmp_path, values)))}
    assert kinds == {"Service", "StatefulSet", "Deployment", "PodDisruptionBudget"}


def test_workers_that_are_scaled_down_by_lag_page_nobody(tmp_path: Path) -> None:
    def half_down(**worker: Any) -> str:
        values = {**read_yaml(MINIMAL), "prometheusRule": {"enabled": True}, "worker": worker}
        (expression,) = (
            rule["expr"]
            for each in objects(rendered(with_values(tmp_path, values)))
            if each["kind"] == "PrometheusRule"
            for group in each["spec"]["groups"]
            for rule in group["rules"]
            if rule.get("alert") == "MeteringHalfDown"
        )
        return str(expression).split("<=")[0].strip()

    assert half_down() == "job:metering_up:sum"
    assert half_down(autoscaling={"enabled": True}) == 'job:metering_up:sum{job!="worker"}'


def test_the_rules_in_a_cluster_are_those_of_prometheus(tmp_path: Path) -> None:
    values = {**read_yaml(MINIMAL), "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}}}
    made = [
        each for each in objects(rendered(with_values(tmp_path, values))) if each["kind"] == "PrometheusRule"
    ]
    files = sorted(path for path in (CHART / "rules").iterdir())
    assert [each["spec"] for each in made] == [read_yaml(path) for path in files]
    assert made[0]["metadata"]["labels"]["release"] == "prometheus"


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_release_of_kubernetes_takes_every_object(version: str) -> None:
    known = [each for case in CASES for each in golden(case) if each["kind"] not in OF_OPERATORS]
    assert len(known) == 45
    for each in known:
        assert validate(each, version, strict=True) == version


def test_the_operators_take_what_is_for_them(tmp_path: Path) -> None:
    python = BUILT / "python"
    if not python.exists():
        pytest.skip(
            f"{python} is not there: `make helm` makes it, with the models of KEDA and the Prometheus operator"
        )
    rules = tmp_path / "rules.yaml"
    rules.write_text(rendered(MINIMAL, "--set", "prometheusRule.enabled=true"), encoding="utf-8")
    said = _asked(python, GOLDEN / "full.yaml", rules)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.splitlines()[-1] == "looked at PrometheusRule, ScaledObject, ServiceMonitor"
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        (GOLDEN / "full.yaml").read_text().replace("pollingInterval", "pollInterval"), encoding="utf-8"
    )
    said = _asked(python, wrong)
    assert said.returncode == 1
    assert "pollInterval" in said.stdout


def _asked(python: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "tests" / "support" / "helm" / "operators.py"
    return subprocess.run(
        [str(python), str(script), *map(str, files)], capture_output=True, text=True, check=False
    )


def _notes(values: Path) -> str:
    said = run_helm(
        *("install", "metering", str(CHART), "--namespace", "metering", "--values", str(values)),
        *("--dry-run=client", "--hide-notes=false"),
    )
    assert said.returncode == 0, said.stderr
    return said.stdout[said.stdout.index("NOTES:") :]


def test_what_is_installed_says_what_to_do_next() -> None:
    notes = _notes(MINIMAL)
    assert "kubectl --namespace metering rollout status statefulset/metering-worker" in notes
    assert "kubectl --namespace metering port-forward service/metering-server 8000:80" in notes
    assert "there is no notary, and no day is signed" in notes
    assert "statefulset/metering-notary" not in notes


def test_a_notary_is_there_wherever_its_key_is_named(tmp_path: Path) -> None:
    values = {**read_yaml(MINIMAL), "notary": {"secrets": {"METERING_NOTARY_KEY": REFERENCE}}}
    file = with_values(tmp_path, values)
    made = workloads(rendered(file))
    assert {role for role, each in made.items() if "METERING_NOTARY_KEY" in environment(each)} == {"notary"}
    assert "rollout status statefulset/metering-notary" in _notes(file)
