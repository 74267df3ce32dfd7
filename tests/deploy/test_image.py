"""The image: what its Dockerfile promises, and what is left in it."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable

import yaml

from pipeline.settings import Settings
from tests.support.deploy import DEPLOY, ROOT

TEXT = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
LINES = [line for line in TEXT.splitlines() if line and not line.startswith("#")]
FINAL = TEXT[TEXT.rindex("\nFROM ") :]

needed: Callable[..., set[str]] = runpy.run_path(str(DEPLOY / "prune.py"))["needed"]


def test_it_runs_as_nobody_in_particular() -> None:
    user = re.findall(r"^USER (\S+)$", FINAL, re.MULTILINE)
    assert user == ["10001:10001"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert compose["services"]["worker"]["user"] == user[-1]


def test_it_installs_only_what_the_lock_names_by_hash() -> None:
    installs = [line for line in LINES if "pip install" in line]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert "--only-binary :all:" in installs[0]
    assert "--no-deps --no-build-isolation" in installs[1]


def test_every_base_is_a_pinned_python() -> None:
    (base,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", TEXT, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11(\.\d+)?-slim-\w+(@sha256:[0-9a-f]{64})?", base)
    assert set(re.findall(r"^FROM (\S+)", TEXT, re.MULTILINE)) == {"${PYTHON_IMAGE}"}


def test_the_final_stage_installs_nothing() -> None:
    assert "apt-get" not in TEXT
    assert "pip install" not in FINAL
    assert "pip uninstall --yes --quiet --root-user-action ignore setuptools wheel pip" in FINAL


def test_it_is_the_command_and_brings_the_sql() -> None:
    assert 'ENTRYPOINT ["metering"]' in FINAL
    assert "COPY sql/ sql/" in TEXT
    assert "COPY --from=build /app /app" in FINAL


def test_every_setting_in_it_exists() -> None:
    named = set(re.findall(r"\bMETERING_[A-Z_]+", TEXT))
    assert named <= {f"METERING_{name.upper()}" for name in Settings.model_fields}


def test_what_it_copies_is_let_through_to_the_build() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line.removeprefix("!").rstrip("/") for line in ignore if line.startswith("!")}
    assert "*" in ignore
    copied = [line.split()[1:-1] for line in LINES if line.startswith("COPY ") and "--from" not in line]
    sources = {source.rstrip("/") for sources in copied for source in sources}
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_keeps_what_runs_and_drops_what_builds_and_tests() -> None:
    kept = needed("bharatrouter-metering", ["chdb", "jgo"])
    assert {"bharatrouter-metering", "faust-streaming", "aiokafka", "lz4", "fastapi", "msgspec"} <= kept
    assert not kept & {
        "pip",
        "mypy",
        "ruff",
        "pytest",
        "hatchling",
        "testcontainers",
        "chdb",
        "chdb-core",
        "jgo",
    }


def test_a_package_stays_where_something_else_needs_it_too() -> None:
    found = {
        "app": ["engine", "driver[fast]>=1", "absent"],
        "engine": ["numbers", "shared"],
        "driver": [
            "shared",
            'speedup; extra == "fast"',
            'tests; extra == "dev"',
            'old; python_version < "3"',
        ],
        "shared": [],
        "speedup": ["app"],
        "absent": [],
    }
    assert needed("App", ["engine"], found.__getitem__) == {"app", "driver", "shared", "speedup", "absent"}
