"""Write what the Helm chart knows of the settings: which role reads which, which are secret, and what values may be.

Owns: `files/settings.yaml`, by which the templates give each role its environment, and `values.schema.json`. Both follow
from `pipeline/settings.py`, so a setting that is new there needs nothing here but another run.
Called by: a person, after a change of the settings or of what can be set in values; `tests/deploy` checks that both
files are up to date.

    python deploy/helm/schema.py            writes both into deploy/helm/metering
    python deploy/helm/schema.py --check    exit 1 where one of them differs
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from pipeline.settings import (
    CommonSettings,
    NotarySettings,
    Settings,
    SinkSettings,
    VerifySettings,
    WorkerSettings,
    variable,
)

CHART = Path(__file__).parent / "metering"
ROLES: dict[str, type[CommonSettings]] = {
    "worker": WorkerSettings,
    "sink": SinkSettings,
    "server": Settings,
    "notary": NotarySettings,
    "topics": CommonSettings,
    "migrate": SinkSettings,
    "verify": VerifySettings,
    "operator": Settings,
}
"""What each role reads, as `pipeline/cli/roles.py` starts it, or `operations/verify.py` for *verify*; *operator* is any
other command."""

FOR_ONE_ROLE = {"notary_key": "notary"}
"""Settings that the chart gives to one role alone, though others would read them: with that key a server signs too, and
whoever broke into it could sign whatever they like."""

GIVEN = {
    "host": "0.0.0.0",  # noqa: S104 - inside a pod, behind a network policy
    "port": "8000",
    "server_sink": "false",
    "server_status_port": "8001",
    "worker_port": "8001",
}
"""What the chart itself sets, beside the name of a pod as its instance: its ports and Services depend on them."""

WITH_PASSWORDS = {"clickhouse_url"}
"""Settings that are no secrets to the product, but hold one."""

JsonSchema = dict[str, Any]
"""A JSON schema, draft 7: the one that every Helm 3 and 4 understands."""

TEXT: JsonSchema = {"type": "string"}
COUNT: JsonSchema = {"type": "integer", "minimum": 0}
SECONDS: JsonSchema = {"type": "integer", "minimum": 1}
LABELS: JsonSchema = {"type": "object", "additionalProperties": TEXT}
ANYTHING: JsonSchema = {"type": "object"}
LIST: JsonSchema = {"type": "array", "items": ANYTHING}
PORTS: JsonSchema = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "integer", "minimum": 1, "maximum": 65535},
}
FILES: JsonSchema = {
    "type": "object",
    "propertyNames": {"pattern": "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"},
    "additionalProperties": {"type": "string", "minLength": 1},
}
SWITCH: JsonSchema = {"type": "boolean"}
SCHEDULE: JsonSchema = {"type": "string", "pattern": r"^(@(hourly|daily|midnight)|\S+ \S+ \S+ \S+ \S+)$"}
"""When a CronJob runs: five fields, or a word for as often as the alert on it needs."""


def exactly(properties: dict[str, JsonSchema], *required: str) -> JsonSchema:
    """Return the schema of an object that has these properties and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
        "properties": properties,
    }


def secret_names() -> set[str]:
    """Return the fields of the settings whose values must not stand in a chart's values."""
    told = Settings.model_json_schema()["properties"]
    return WITH_PASSWORDS | {name for name, schema in told.items() if "writeOnly" in json.dumps(schema)}


def given_to(role: str) -> list[str]:
    """Return the settings that a role is given where they are set."""
    return [name for name in ROLES[role].model_fields if FOR_ONE_ROLE.get(name, role) == role]


def settable(names: Iterable[str]) -> list[str]:
    """Return which of some settings values may set, secret or not."""
    return [name for name in names if name not in GIVEN and name != "instance"]


def of_setting(told: JsonSchema) -> JsonSchema:
    """Return the schema of a setting's value as pydantic tells it, without its default and without null."""
    kept = {key: value for key, value in told.items() if key not in ("title", "default", "anyOf")}
    for choice in told.get("anyOf", []):
        if choice.get("type") != "null":
            kept.update(choice)
    return kept


def settings_schema(names: Iterable[str]) -> JsonSchema:
    """Return the schema of `settings` for a role that is given these, or for all: secrets are refused."""
    told = Settings.model_json_schema()["properties"]
    return exactly(
        {variable(name): of_setting(told[name]) for name in settable(names) if name not in secret_names()}
    )


def secrets_schema(names: Iterable[str]) -> JsonSchema:
    """Return the schema of `secrets` for a role that is given these, or for all: where each is kept."""
    reference = {"$ref": "#/definitions/secretKey"}
    return exactly({variable(name): reference for name in settable(names) if name in secret_names()})


def role_schema(role: str, more: dict[str, JsonSchema]) -> JsonSchema:
    """Return the schema of what stands under a role."""
    return exactly(
        {
            "image": exactly({"repository": TEXT, "tag": TEXT}),
            "settings": settings_schema(given_to(role)),
            "secrets": secrets_schema(given_to(role)),
            "files": FILES,
            "resources": ANYTHING,
            "nodeSelector": LABELS,
            "tolerations": LIST,
            "affinity": ANYTHING,
            "podLabels": LABELS,
            "podAnnotations": LABELS,
            **more,
        }
    )


def values_schema() -> JsonSchema:
    """Return the schema of the chart's values."""
    running = {"replicas": COUNT, "terminationGracePeriodSeconds": SECONDS, "priorityClassName": TEXT}
    job = {"enabled": SWITCH, "activeDeadlineSeconds": SECONDS}
    autoscaling = exactly(
        {
            "enabled": SWITCH,
            "minReplicas": {"type": "integer", "minimum": 1},
            "maxReplicas": {"type": "integer", "minimum": 1},
            "lagRecords": {"type": "integer", "minimum": 1},
            "authentication": TEXT,
        }
    )
    service = exactly(
        {
            "type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
            "port": PORTS["items"],
            "annotations": LABELS,
        }
    )
    reached, reaching = exactly({"ports": PORTS, "to": LIST}), exactly({"from": LIST})
    watched = {"enabled": SWITCH, "labels": LABELS}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {
            "secretKey": exactly(
                {"name": {"type": "string", "minLength": 1}, "key": {"type": "string", "minLength": 1}},
                *("name", "key"),
            )
        },
        **exactly(
            {
                "global": ANYTHING,
                "nameOverride": TEXT,
                "fullnameOverride": TEXT,
                "image": exactly(
                    {
                        "repository": TEXT,
                        "tag": TEXT,
                        "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
                    }
                ),
                "imagePullSecrets": {"type": "array", "items": exactly({"name": TEXT}, "name")},
                "serviceAccountName": TEXT,
                "podLabels": LABELS,
                "podAnnotations": LABELS,
                "settings": settings_schema(Settings.model_fields),
                "secrets": secrets_schema(Settings.model_fields),
                "files": FILES,
                "worker": role_schema("worker", {**running, "autoscaling": autoscaling}),
                "sink": role_schema("sink", running),
                "server": role_schema("server", {**running, "service": service}),
                "notary": role_schema("notary", running),
                "topics": role_schema("topics", job),
                "migrate": role_schema("migrate", job),
                "verify": role_schema(
                    "verify", {**job, "schedule": SCHEDULE, "timeZone": TEXT, "full": SWITCH}
                ),
                "operator": role_schema("operator", {"args": {"type": "array", "items": TEXT}}),
                "networkPolicy": exactly(
                    {
                        "enabled": SWITCH,
                        **dict.fromkeys(("dns", "kafka", "clickhouse", "internet", "mail"), reached),
                        **dict.fromkeys(("monitoring", "browsers"), reaching),
                    }
                ),
                "serviceMonitor": exactly(
                    {**watched, "interval": {"type": "string", "pattern": "^[0-9]+(s|m)$"}}
                ),
                "prometheusRule": exactly(watched),
            }
        ),
    }


def known_settings() -> dict[str, Any]:
    """Return what the templates have to know: what the chart gives, what is secret, and what each role reads."""
    return {
        "given": {variable(name): value for name, value in GIVEN.items()},
        "secrets": [variable(name) for name in Settings.model_fields if name in secret_names()],
        "roles": {role: [variable(name) for name in given_to(role)] for role in ROLES},
    }


def written() -> dict[Path, str]:
    """Return both files with their content."""
    head = "# Written by deploy/helm/schema.py from pipeline/settings.py: change these.\n"
    return {
        CHART / "files" / "settings.yaml": head + yaml.safe_dump(known_settings(), sort_keys=False),
        CHART / "values.schema.json": json.dumps(values_schema(), indent=2) + "\n",
    }


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` say which differ; the exit code."""
    differing = 0
    for path, text in written().items():
        if arguments != ["--check"]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path} is not up to date: run python deploy/helm/schema.py", file=sys.stderr)
            differing = 1
    return differing


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
