"""The programs of a cluster: built once from their sources by Go, beside what Debian has of them.

Owns: what has to be on the machine, and where the built programs are kept.
Called by: tests/support/kube/__main__.py.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.helm.chart import tool
from tests.support.kube.node import CNI_PROGRAMS
from tests.support.stack.commands import run, tried

HERE = Path(__file__).parent
PARTS = {"cluster": HERE, "addons": HERE / "addons"}
"""Each program and the directory of its Go module."""
BUILD_LIMIT_S = 7200.0
CGROUP_LIMIT_S = 30.0
_NEEDED = ("containerd", "runc", "iptables", "openssl", "unshare")
_PACKAGES = ("containerd", "runc", "iptables", "containernetworking-plugins")
_CGROUPS = Path("/sys/fs/cgroup")


def lacking(environment: Mapping[str, str]) -> str | None:
    """Return why there can be no cluster here, in words for a person, after an attempt to install what Debian has."""
    if os.geteuid() != 0:
        return "a node's programs want root"
    if shutil.which("go") is None:
        return "Kubernetes is built by Go, which is not here"
    if tool("helm") is None:
        return "helm is not here: `make helm` builds it"
    if _absent() and shutil.which("apt-get"):
        quiet = {**environment, "DEBIAN_FRONTEND": "noninteractive"}
        tried(["apt-get", "update", "-qq"], quiet)
        tried(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *_PACKAGES], quiet)
    absent = _absent()
    return f"not here: {', '.join(absent)} (apt-get install {' '.join(_PACKAGES)})" if absent else None


def _absent() -> list[str]:
    absent = [name for name in _NEEDED if shutil.which(name) is None]
    return absent if (CNI_PROGRAMS / "ptp").exists() else [*absent, "CNI plugins"]


def built(environment: Mapping[str, str], say: Callable[[str], None]) -> Path:
    """Return the directory of the programs, built where they are not there yet. Raises CommandError."""
    to = Path(sys.prefix) / "kube" / _fingerprint()
    to.mkdir(parents=True, exist_ok=True)
    for name, source in PARTS.items():
        if not (to / name).exists():
            say(f"building {name} with Go, once: some minutes")
            run(
                ["go", "build", "-trimpath", "-ldflags", _linked(), "-o", str(to / f"{name}.new"), "."],
                {**environment, "CGO_ENABLED": "0"},
                limit_s=BUILD_LIMIT_S,
                at=source,
            )
            (to / f"{name}.new").replace(to / name)
    return to


def _linked() -> str:
    """Return what the linker is told: without symbols, and which release this is, by which helm judges the cluster."""
    text = (HERE / "go.mod").read_text(encoding="utf-8")
    [(major, minor, patch)] = re.findall(r"^\tk8s\.io/kubernetes v(\d+)\.(\d+)\.(\d+)$", text, re.MULTILINE)
    said = {"gitVersion": f"v{major}.{minor}.{patch}", "gitMajor": major, "gitMinor": minor}
    return " ".join(
        ["-s -w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in said.items())]
    )


def _fingerprint() -> str:
    """Return the hash of what the programs are built from."""
    seen = hashlib.sha256()
    for at in sorted(each for source in PARTS.values() for each in source.iterdir()):
        if at.suffix in (".go", ".mod", ".sum"):
            seen.update(f"{at.relative_to(HERE)}\0".encode() + at.read_bytes() + b"\0")
    return seen.hexdigest()[:16]


def remove_cgroups() -> None:
    """Remove the groups that a kubelet made for pods, once their last process is gone. Raises OSError where one stays."""
    until_s = time.monotonic() + CGROUP_LIMIT_S
    for top in _CGROUPS.glob("*/kubepods"):
        for at, _, _ in os.walk(top, topdown=False):
            while Path(at).exists():
                try:
                    Path(at).rmdir()
                except OSError:
                    if time.monotonic() > until_s:
                        raise
                    time.sleep(0.2)
