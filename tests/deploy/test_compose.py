"""docker-compose.yml and its example.env: the schema, the settings they name, and what containers are denied."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for

from pipeline.local.broker import SETTINGS as LOCAL_BROKER
from pipeline.settings import Settings
from tests.support.deploy import DEPLOY, ROOT, read_yaml

TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
STACK = read_yaml(ROOT / "docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
EXAMPLE = (DEPLOY / "example.env").read_text(encoding="utf-8")

ONE_SHOT = {"topics", "migrate", "cli"}
OURS = {"topics", "migrate", "worker", "sink", "server", "cli"}
SETTINGS = {f"METERING_{name.upper()}" for name in Settings.model_fields}
SECRETS = {"METERING_COMMAND_KEY", "METERING_SESSION_SECRET", "CLICKHOUSE_PASSWORD", "GRAFANA_ADMIN_PASSWORD"}
OTHER_THAN_ITS_OWN = {
    # Another Kafka or ClickHouse than the stack's, which are in the clear on networks of their own.
    *(f"METERING_KAFKA_{name}" for name in ("SECURITY_PROTOCOL", "SASL_MECHANISM", "USERNAME", "PASSWORD")),
    *(f"METERING_{part}_{file}_FILE" for part in ("KAFKA", "CLICKHOUSE") for file in ("CA", "CERT", "KEY")),
    # Where roles listen: the image and the health checks say so. A stand-in's Checkout, and secrets that are none.
    *("METERING_HOST", "METERING_WORKER_PORT", "METERING_CHECKOUT_URL", "METERING_WEAK_SECRETS"),
}

# What keeps the promises of the pipeline on any broker, however it is run.
PROMISES = (
    "auto.create.topics.enable",
    "message.max.bytes",
    "replica.fetch.max.bytes",
    "offsets.retention.minutes",
    "transactional.id.expiration.ms",
)


def specification() -> Validator:
    """Return the compose specification that check-jsonschema brings along, by the draft it is written in."""
    spec = find_spec("check_jsonschema")
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(file.read_text(encoding="utf-8"))
    return validator_for(schema)(schema)


def environment(service: str) -> dict[str, str | None]:
    """Return a service's environment, with what it merges in."""
    given: dict[str, str | None] = SERVICES[service].get("environment", {})
    return given


def test_the_compose_file_keeps_to_the_compose_specification() -> None:
    assert [error.message for error in specification().iter_errors(STACK)] == []


def test_the_schema_would_catch_a_mistake() -> None:
    wrong = {"services": {"worker": {"imagine": "metering"}}}
    assert not specification().is_valid(wrong)


def test_every_setting_that_is_named_exists() -> None:
    named = set(re.findall(r"\bMETERING_[A-Z_]+", TEXT + EXAMPLE))
    assert named <= SETTINGS, f"no such settings: {sorted(named - SETTINGS)}"


def test_every_variable_the_stack_reads_is_in_the_example() -> None:
    read = set(re.findall(r"\$\{([A-Z_]+)", TEXT))
    read |= {name for service in OURS for name, value in environment(service).items() if value is None}
    offered = set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE, re.MULTILINE))
    assert read - offered <= {"CONTAINER_IMAGE", "METERING_RAZORPAY_URL"}
    assert offered <= read


def test_every_setting_is_passed_on_but_those_of_what_the_stack_has_itself() -> None:
    passed = {name for service in OURS for name in environment(service)}
    assert SETTINGS - passed == OTHER_THAN_ITS_OWN


def test_every_secret_must_be_set_and_has_no_value_in_the_repository() -> None:
    required = set(re.findall(r"\$\{([A-Z_]+):\?", TEXT))
    assert required == SECRETS
    for name in SECRETS:
        assert f"\n{name}=\n" in EXAMPLE


def test_a_role_gets_only_the_secrets_it_needs() -> None:
    assert "METERING_SESSION_SECRET" not in environment("worker")
    assert "METERING_CLICKHOUSE_URL" not in environment("worker")
    assert {s for s in OURS if "METERING_COMMAND_KEY" in environment(s)} == {"worker", "server", "cli"}
    assert "METERING_RAZORPAY_KEY_SECRET" not in environment("sink")


def test_what_is_optional_is_passed_on_only_where_it_is_set() -> None:
    server = environment("server")
    assert server["METERING_RAZORPAY_KEY_SECRET"] is None
    assert server["METERING_SMTP_URL"] is None


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_container_can_do_nothing_it_need_not(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_published_port_is_on_the_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_runs_on_has_a_healthcheck_and_is_started_again(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert service["restart"] == "no"
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_is_waited_for_can_be_waited_for(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        if other in ONE_SHOT:
            assert wait["condition"] == "service_completed_successfully"
        else:
            assert wait["condition"] == "service_healthy"


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - OURS))
def test_a_foreign_image_is_pinned(name: str) -> None:
    tag = SERVICES[name]["image"].partition("@")[0].rpartition(":")[2]
    assert re.fullmatch(r"v?\d+\.\d+(\.\d+)*", tag), f"{name} has the tag {tag}"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_an_engine_of_debian_12_or_ubuntu_22_can_run_it(name: str) -> None:
    """They are older than 25, which brought `start_interval`, and their runc before 1.1.12, which heeds a tmpfs' mode."""
    service = SERVICES[name]
    assert "start_interval" not in service.get("healthcheck", {})
    for place in service.get("tmpfs", []):
        path, _, options = place.partition(":")
        assert path == "/tmp" or {"mode=0755"} < set(options.split(",")), place
        assert path == "/tmp" or ("uid=" in options and "gid=" in options), place


def test_as_many_files_may_be_open_as_the_engine_is_allowed() -> None:
    """A limit above the engine's own keeps a container from starting, so whoever has a lower one can say so."""
    for name in ("kafka", "clickhouse"):
        assert set(SERVICES[name]["ulimits"]["nofile"].values()) == {"${OPEN_FILES_MAX:-262144}"}


def test_workers_can_be_many() -> None:
    assert "ports" not in SERVICES["worker"]
    assert "container_name" not in SERVICES["worker"]


def test_the_sink_runs_once_beside_a_server_without_one() -> None:
    assert environment("server")["METERING_SERVER_SINK"] == "false"
    assert SERVICES["sink"]["command"] == ["sink"]


def test_kafka_and_clickhouse_keep_their_data() -> None:
    assert "kafka-data:/var/lib/kafka/data" in SERVICES["kafka"]["volumes"]
    assert environment("kafka")["KAFKA_LOG_DIRS"] == "/var/lib/kafka/data"
    assert "clickhouse-data:/var/lib/clickhouse" in SERVICES["clickhouse"]["volumes"]
    used = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if not v.startswith(".")}
    assert used == STACK["volumes"].keys()


def test_every_mounted_file_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).exists(), volume
                assert volume.endswith(":ro"), volume


@pytest.mark.parametrize("setting", PROMISES)
def test_the_broker_keeps_the_promises_of_the_local_one(setting: str) -> None:
    variable = "KAFKA_" + setting.upper().replace(".", "_")
    assert environment("kafka")[variable] == LOCAL_BROKER[setting]


def test_the_broker_is_the_release_that_the_tests_run() -> None:
    jars = (ROOT / "pipeline" / "local" / "kafka-jars.txt").read_text(encoding="utf-8")
    release = SERVICES["kafka"]["image"].partition("@")[0].rpartition(":")[2]
    assert f"org.apache.kafka:kafka-clients:{release} " in jars
