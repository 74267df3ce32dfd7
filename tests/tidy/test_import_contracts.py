"""The import contracts see a planted violation: what they promise is really checked."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_LINT = Path(sys.executable).with_name("lint-imports")

# Where the line is planted, the line, and the contract that must see it.
_PLANTED = [
    ("pipeline/money.py", "import pydantic", "The core knows no library that talks to anything"),
    ("pipeline/posting/unit.py", "from pipeline import telemetry", "The core knows no library"),
    ("pipeline/ist.py", "from pipeline import posting", "Imports point inwards"),
    ("pipeline/gateway/sending/entry.py", "from pipeline import settings", "A gateway needs neither"),
    ("pipeline/gateway/sending/spool.py", "import fastapi", "A gateway needs neither"),
    ("pipeline/local/ports.py", "import faust", "Only the worker knows Faust"),
    ("pipeline/local/errors.py", "import chdb", "Only clickhouse/ knows the database"),
    ("pipeline/api/pages/policy.py", "from pipeline.api.routes import receipts", "Inside the API"),
    (
        "pipeline/gateway/admission/gate.py",
        "from pipeline.gateway.sending import batches",
        "Inside the gateway",
    ),
    ("pipeline/gateway/sending/entry.py", "from pipeline.gateway.sending import spool", "No circle"),
    ("pipeline/cupboard.py", "", "Imports point inwards"),
]


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the linter says of a copy of the project with every violation planted in it."""
    copy = tmp_path_factory.mktemp("planted")
    shutil.copytree(_ROOT / "pipeline", copy / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(_ROOT / "pyproject.toml", copy)
    for path, line, _ in _PLANTED:
        with (copy / path).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    ran = subprocess.run(
        [_LINT, "--no-cache"],
        cwd=copy,
        env={"PYTHONPATH": str(copy), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize(("path", "contract"), [(path, contract) for path, _, contract in _PLANTED])
def test_a_planted_violation_is_seen(findings: str, path: str, contract: str) -> None:
    module = path.removesuffix(".py").replace("/", ".")
    assert any(contract in said and "BROKEN" in said for said in findings.splitlines()), findings
    assert module.rpartition(".")[2] in findings.partition("Broken contracts")[2]
