"""The Helm chart rendered: golden files, and how they are made anew.

    python -m tests.support.helm.chart      renders them, with the `helm` of `make helm`

A golden file is what `helm template` makes of the values file of its name in tests/deploy/helm. Making one takes helm, which
takes minutes to build; so the files are committed, with a fingerprint of what they were made from, and what can be
checked without helm is checked on them.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support.deploy import DEPLOY, ROOT

CHART = DEPLOY / "helm" / "metering"
GOLDEN = ROOT / "tests" / "deploy" / "helm"
FINGERPRINT = GOLDEN / "made-from.sha256"
CASES = ("minimal", "full")
BUILT = Path(sys.prefix) / "helm" / "bin"
"""Where `make helm` puts what it builds."""

FOLLOWS = {
    "files/settings.yaml",
    "values.schema.json",
    "rules/alerts.yml",
    "rules/objectives.yml",
    "rules/recording.yml",
}
"""Files of the chart that follow from others, by tests of their own: nobody should need helm to change a setting or an alert."""

Manifest = dict[str, Any]
"""One Kubernetes object."""


def tool(name: str) -> str | None:
    """Return where a program is that `make helm` built or the machine has."""
    return shutil.which(name, path=str(BUILT)) or shutil.which(name)


def fingerprint() -> str:
    """Return the hash of all that the golden files are made from: names and content."""
    of_chart = [path for path in CHART.rglob("*") if path.is_file()]
    kept = [path for path in of_chart if path.relative_to(CHART).as_posix() not in FOLLOWS]
    seen = hashlib.sha256()
    for path in sorted([*kept, *(GOLDEN / f"{case}.values.yaml" for case in CASES)]):
        seen.update(f"{path.relative_to(ROOT).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return seen.hexdigest()


def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm. Raises AssertionError where there is none."""
    helm = tool("helm")
    assert helm is not None, "no helm here: `make helm` builds it, where there is Go"
    return subprocess.run([helm, *arguments], capture_output=True, text=True, check=False)


def template(values: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Render the chart with a values file, for a release `metering` in a namespace of that name."""
    return run_helm(
        *("template", "metering", str(CHART), "--namespace", "metering", "--values", str(values), *more)
    )


def rendered(values: Path, *more: str) -> str:
    """Return the rendered chart as text. Raises AssertionError with what helm said where it fails."""
    done = template(values, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(text: str) -> list[Manifest]:
    """Return the objects of a rendered chart."""
    return [each for each in yaml.safe_load_all(text) if each is not None]


def golden(case: str) -> list[Manifest]:
    """Return the objects of a golden file."""
    return objects((GOLDEN / f"{case}.yaml").read_text(encoding="utf-8"))


def main() -> None:
    """Make the golden files anew."""
    for case in CASES:
        text = rendered(GOLDEN / f"{case}.values.yaml")
        (GOLDEN / f"{case}.yaml").write_text(text, encoding="utf-8")
    FINGERPRINT.write_text(f"{fingerprint()}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
