"""What the chart's golden files hold: each role's objects, its container and environment, and whom it may reach.

Called by: tests/deploy/test_helm.py and tests/deploy/test_helm_reach.py.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from pipeline.settings import CommonSettings
from tests.support.deploy import DEPLOY, read_yaml
from tests.support.helm.chart import CASES, CHART, GOLDEN, Manifest, golden

MADE = runpy.run_path(str(DEPLOY / "helm" / "schema.py"))
ROLES: dict[str, type[CommonSettings]] = MADE["ROLES"]
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS = read_yaml(CHART / "values.yaml")
GIVEN_VALUES = {case: read_yaml(GOLDEN / f"{case}.values.yaml") for case in CASES}
OBJECTS = {case: golden(case) for case in CASES}


def of_kind(case: str, *kinds: str) -> dict[str, Manifest]:
    """Return the objects of some kinds by their names."""
    return {each["metadata"]["name"]: each for each in OBJECTS[case] if each["kind"] in kinds}


def pods(case: str) -> Iterator[tuple[str, Manifest]]:
    """Return each role's pod template with the role's name."""
    for each in of_kind(case, "StatefulSet", "Deployment", "Job", "CronJob").values():
        spec = each["spec"]["jobTemplate"]["spec"] if each["kind"] == "CronJob" else each["spec"]
        pod = spec["template"]
        yield pod["metadata"]["labels"]["app.kubernetes.io/component"], pod


def container(case: str, role: str) -> dict[str, Any]:
    """Return a role's only container."""
    (only,) = dict(pods(case))[role]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


def merged(case: str) -> dict[str, Any]:
    """Return the values in force, as helm merges them."""
    return merge(deepcopy(DEFAULTS), GIVEN_VALUES[case])


def merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Put values over others, as helm does; the lower ones are changed and returned."""
    for key, value in over.items():
        is_both = isinstance(value, dict) and isinstance(under.get(key), dict)
        under[key] = merge(under[key], value) if is_both else value
    return under


def given(case: str, role: str) -> dict[str, Any]:
    """Return a role's environment by the variables' names."""
    return {each["name"]: each for each in container(case, role)["env"]}


def value(case: str, role: str, name: str) -> str | None:
    """Return what a variable of a role is set to, None where it is not set here."""
    found: str | None = given(case, role).get(name, {}).get("value")
    return found


def reached(case: str, role: str) -> list[list[int]]:
    """Return the ports that a role may reach, for each group of peers."""
    policy = of_kind(case, "NetworkPolicy")[f"metering-{role}"]["spec"]
    return [[port["port"] for port in rule["ports"]] for rule in policy["egress"]]
