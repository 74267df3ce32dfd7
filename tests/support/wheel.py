"""The wheel of this checkout, and environments with nothing in them to install it into."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.deploy import ROOT


def built(into: Path) -> Path:
    """Build the wheel into a directory."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(into)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = into.glob("*.whl")
    return wheel


def empty_environment(home: Path, *install: str) -> Path:
    """Return a new virtual environment with only what is asked for in it, without pip."""
    made = home / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(made / "bin/python"), "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", "install", *install], check=True)
    return made
