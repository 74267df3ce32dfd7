"""The wheel: it carries what stands beside the package, and a gateway node needs next to nothing for it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.deploy import ROOT
from tests.support.wheel import built, empty_environment, interpreter, locked, promised_versions

GATEWAY_MIB_MAX = 40
NOT_FOR_GATEWAYS = ("faust", "fastapi", "chdb", "pydantic", "clickhouse_connect")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return built(tmp_path_factory.mktemp("wheel"))


def test_it_carries_all_that_stands_beside_the_package(wheel: Path) -> None:
    carried = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("sql", "schemas"):
        for file in (ROOT / folder).rglob("*.*"):
            assert f"pipeline/_shipped/{file.relative_to(ROOT)}" in carried
    for name in ("_shipped/deploy/catalog.yaml", "local/kafka-jars.txt", "api/templates/overview.html"):
        assert f"pipeline/{name}" in carried
    assert not any(name.startswith(("tests/", "bench/")) for name in carried)


def test_the_same_checkout_makes_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    assert built(tmp_path).read_bytes() == wheel.read_bytes()


@pytest.mark.parametrize("version", promised_versions())
def test_a_gateway_node_installs_the_library_alone_and_the_command_says_what_it_lacks(
    wheel: Path, tmp_path: Path, version: str
) -> None:
    home = empty_environment(tmp_path, interpreter(version), f"{wheel}[gateway]")
    used = sum(file.stat().st_size for file in (home / "lib").rglob("*") if file.is_file())
    assert used < GATEWAY_MIB_MAX * 2**20
    found = f"import sys, pipeline.gateway; print([m for m in {NOT_FOR_GATEWAYS} if m in sys.modules])"
    told = subprocess.run(
        [home / "bin/python", "-I", "-c", found], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert told.stdout.strip() == "[]"
    refused = subprocess.run(
        [home / "bin/metering", "verify"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert refused.returncode == 1
    assert "pip install 'bharatrouter-metering[roles]'" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("version", promised_versions())
def test_a_machine_of_roles_installs_them_alone_and_has_every_command(
    wheel: Path, tmp_path: Path, version: str
) -> None:
    tested = tmp_path / "tested.txt"
    tested.write_text("\n".join(locked()))
    home = empty_environment(tmp_path, interpreter(version), f"{wheel}[roles]", "--constraint", str(tested))
    assert not list(home.glob("lib/*/site-packages/chdb"))

    def metering(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(home / "bin/metering"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env={})

    helps = metering("--help")
    assert helps.returncode == 0, helps.stderr
    assert all(command in helps.stdout for command in ("worker", "sink", "server", "notary", "verify"))
    lacking = metering("worker")
    assert (lacking.returncode, "METERING_KAFKA_URL" in lacking.stderr) == (1, True), lacking.stderr


def test_the_command_tells_its_release() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "pipeline", "--version"], capture_output=True, text=True, check=True
    )
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert told.stdout == f"metering {declared}\n"
