"""A command starts without the libraries that only another one needs: a worker's restart is waited for."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LOADED = "import sys, pipeline.cli.main; print(*sys.modules)"


@pytest.mark.parametrize("library", ["chdb", "clickhouse_connect", "fastapi", "faust", "httpx2", "uvicorn"])
def test_the_command_line_alone_loads_none_of_the_roles_libraries(library: str, loaded: set[str]) -> None:
    assert library not in loaded


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """What is loaded before a command is chosen."""
    told = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True).stdout
    return set(told.split())
