"""The wheel of this checkout, and environments with nothing in them to install it into, one a Python that is here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deploy import ROOT


def built(into: Path) -> Path:
    """Build the wheel into a directory."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(into)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = into.glob("*.whl")
    return wheel


def promised_versions() -> list[str]:
    """Return the versions of Python that pyproject.toml names, as `3.11`, oldest first."""
    told = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', told)


def interpreter(version: str) -> str:
    """Return the path of a Python of a version; where there is none, the test is skipped and says so."""
    # pyenv's own commands of that name answer for a version that has been chosen only.
    env = {**os.environ, "PYENV_VERSION": version}
    command = [f"python{version}", "-c", "import sys; print(sys.executable)"]
    try:
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"no Python {version} here")


def locked() -> Iterator[str]:
    """Return the versions that were tested, one line of constraints each."""
    # Their hashes cannot stand beside a file of one's own.
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return (match[0] for match in re.finditer(r"^[\w.-]+==[^\\\n]+", lock, re.MULTILINE))


def empty_environment(home: Path, python: str, *install: str) -> Path:
    """Return a new virtual environment of a Python with only what is asked for in it, without pip."""
    made = home / "environment"
    subprocess.run([python, "-m", "venv", "--without-pip", str(made)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(made / "bin/python"), "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", "install", *install], check=True)
    return made
