"""Prometheus and promtool for the tests: the machine's own, or Debian's package unpacked into the virtual environment.

    python -m tests.support.prometheus      has them there, where apt can, and says where they are or why they are not

Called by: `make test`, and the tests of what Prometheus is given.

Nothing is installed on the machine, and nobody has to be root: `apt-get download` fetches the distribution's package `prometheus`,
whose signature it checks, and what it needs to know of the archive it keeps in a folder of its own where the machine
knows nothing. The version is the distribution's (2.42 on Debian 12); there is no package of it at PyPI.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGE, NODE_EXPORTER = "prometheus", "prometheus-node-exporter"
"""Debian's packages: Prometheus with promtool, and what shows a machine's own figures."""
LIMIT_S = 240
"""For how long apt may take for one step: a slow archive ends no run of the tests."""


class NotFetchedError(Exception):
    """The package cannot be had; the message says why, in one line."""


def program(name: str) -> str | None:
    """Return where `prometheus` or `promtool` is, None where neither the machine nor the environment has it."""
    here = os.pathsep.join(str(unpacked(package) / "usr" / "bin") for package in (PACKAGE, NODE_EXPORTER))
    return shutil.which(name) or shutil.which(name, path=here)


def unpacked(package: str) -> Path:
    """Return where a package is unpacked."""
    return Path(sys.prefix) / package


def fetch(package: str = PACKAGE) -> None:
    """Unpack a package into the environment. Raises NotFetchedError."""
    for needed in ("apt-get", "dpkg-deb"):
        if shutil.which(needed) is None:
            raise NotFetchedError(f"there is no {needed} here")
    place = unpacked(package)
    place.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=place.parent, prefix="prometheus-") as made:
        folder = Path(made)
        _run(["dpkg-deb", "-x", str(_downloaded(folder, package)), str(folder / "files")], folder)
        shutil.rmtree(place, ignore_errors=True)
        (folder / "files").rename(place)


def _downloaded(folder: Path, package: str) -> Path:
    """Return the package's file, downloaded by what the machine knows of its archive, or by what the archive says now."""
    download = ["download", package]
    try:
        _apt(folder, *download)
    except NotFetchedError:
        lists, cache = folder / "lists", folder / "cache"
        for each in (lists / "partial", cache / "archives" / "partial"):
            each.mkdir(parents=True)
        own = ("-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}")
        _apt(folder, *own, "update")
        _apt(folder, *own, *download)
    (found,) = folder.glob(f"{package}_*.deb")
    return found


def _apt(folder: Path, *arguments: str) -> None:
    # As root apt would change to a user who may not write here.
    _run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", *arguments], folder)


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        raise NotFetchedError(f"`{' '.join(command)}` had not ended after {LIMIT_S} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise NotFetchedError(f"`{' '.join(command)}`: {said[-1]}")


def version(path: str) -> str:
    """Return what a program says of its release, in one line."""
    asked = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    return (asked.stdout or asked.stderr).splitlines()[0]


def main() -> None:
    """Have the programs there and say where; never fails, as the tests can be skipped."""
    try:
        if program("promtool") is None:
            print("fetching promtool for the tests of the alert rules", file=sys.stderr)
            fetch()
    except NotFetchedError as error:
        print(f"No promtool, so the alert rules are not tested: {error}", file=sys.stderr)
        return
    path = program("promtool")
    assert path is not None, f"Debian's package has no promtool in {unpacked(PACKAGE)}"
    print(f"{path}: {version(path)}", file=sys.stderr)


if __name__ == "__main__":
    main()
