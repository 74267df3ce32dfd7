"""A Docker engine for `make stack`: the one that answers, or one that is started here and ended again.

Owns: finding or starting the engine, finding or building Docker Compose, and leaving the machine as it was.
Called by: tests/support/stack/__main__.py.

An engine of its own keeps everything in a temporary directory, which is removed with it. It makes a bridge and rules of
the firewall; both are taken back.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.stack.commands import CommandError, run, tried

COMPOSE_MODULE = "github.com/docker/compose/v2"
COMPOSE_VERSION = "v2.40.3"
START_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0
NO_ENGINE = (
    "make stack: no Docker engine answers. Start one, or as root: apt-get install docker.io iptables, "
    "and run `make stack` again, which starts one for itself."
)
NO_COMPOSE = (
    "make stack: no Docker Compose v2. Install it (docker-compose-plugin), or Go, with which `make stack` "
    "builds it once."
)
_PACKAGES = ("docker.io", "iptables", "debootstrap")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_BRIDGE = "docker0"
_EMPTY = {
    "filter": "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n",
    "nat": "*nat\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\nCOMMIT\n",
}
"""The tables that an engine writes into, as they are where nobody has. `iptables-save` leaves such a table out."""


class NoEngineError(Exception):
    """There is no engine, or no Compose, and none can be made here. The message is one line that says how to get it."""


@contextmanager
def running() -> Iterator[dict[str, str]]:
    """Yield an environment in which `docker` finds an engine. Raises NoEngineError."""
    environment = dict(os.environ)
    # The classic builder does for our Dockerfile, and does not need a plug-in of its own.
    if tried(["docker", "buildx", "version"], environment).returncode != 0:
        environment["DOCKER_BUILDKIT"] = "0"
    if _answers(environment):
        yield environment
        return
    if os.geteuid() != 0 or not _installed(environment):
        raise NoEngineError(NO_ENGINE)
    with _firewall_as_it_was(environment), _own(environment) as host:
        yield {**environment, "DOCKER_HOST": host}


def version(environment: Mapping[str, str]) -> str:
    """Return the engine's release and what stores its layers and runs its containers. Raises CommandError."""
    form = "Docker Engine {{.ServerVersion}}, {{.Driver}}, {{.DefaultRuntime}}, {{.OperatingSystem}}"
    return run(["docker", "info", "--format", form], environment).strip()


def compose(environment: Mapping[str, str]) -> list[str]:
    """Return the command that is Docker Compose, built from source where there is none. Raises NoEngineError, CommandError."""
    plugin = ["docker", "compose"]
    if tried([*plugin, "version"], environment).returncode == 0:
        return plugin
    built = Path(sys.prefix) / "stack" / f"docker-compose-{COMPOSE_VERSION}"
    if not built.exists():
        _build_compose(built, environment)
    return [str(built)]


def _answers(environment: Mapping[str, str]) -> bool:
    return tried(["docker", "version"], environment).returncode == 0


def _installed(environment: Mapping[str, str]) -> bool:
    """Return whether there is a daemon to start, after an attempt to install it where apt can."""
    if shutil.which("dockerd") and shutil.which("iptables"):
        return True
    if shutil.which("apt-get") is None:
        return False
    sys.stderr.write(f"installing {', '.join(_PACKAGES)}\n")
    quiet = {**environment, "DEBIAN_FRONTEND": "noninteractive"}
    tried(["apt-get", "update", "-qq"], quiet)
    tried(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *_PACKAGES], quiet)
    return shutil.which("dockerd") is not None and shutil.which("iptables") is not None


@contextmanager
def _own(environment: Mapping[str, str]) -> Iterator[str]:
    """Run an engine, and yield where it listens."""
    with tempfile.TemporaryDirectory(prefix="metering-engine-", ignore_cleanup_errors=True) as place:
        home = Path(place)
        host = f"unix://{home}/docker.sock"
        with (home / "log").open("wb") as log:
            daemon = subprocess.Popen(
                [
                    *("dockerd", "--host", host, "--pidfile", str(home / "pid")),
                    *("--data-root", str(home / "data"), "--exec-root", str(home / "exec")),
                ],
                stdout=log,
                stderr=log,
                # Ctrl-C is for us: the engine is needed until the stack is down.
                start_new_session=True,
            )
        try:
            until_s = time.monotonic() + START_LIMIT_S
            while not _answers({**environment, "DOCKER_HOST": host}):
                if daemon.poll() is not None or time.monotonic() > until_s:
                    last = (home / "log").read_text(errors="replace").splitlines()[-1:]
                    raise NoEngineError(f"make stack: dockerd does not start here: {' '.join(last)}")
                time.sleep(0.2)
            yield host
        finally:
            daemon.terminate()
            try:
                daemon.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
            # It leaves the name of the network that containers on the machine's own had: a mount, which nobody can remove.
            for mounted in reversed(Path("/proc/mounts").read_text(encoding="utf-8").splitlines()):
                if mounted.split()[1].startswith(f"{home}/"):
                    tried(["umount", mounted.split()[1]], environment)


@contextmanager
def _firewall_as_it_was(environment: Mapping[str, str]) -> Iterator[None]:
    """Take back what an engine of its own changes of the machine's network. Raises NoEngineError where rules cannot be read."""
    forwarding = _FORWARDING.read_text(encoding="utf-8")
    try:
        rules = run(["iptables-save"], environment)
    except CommandError as error:
        raise NoEngineError(f"make stack: an engine needs iptables: {str(error).splitlines()[-1]}") from None
    try:
        yield
    finally:
        unwritten = "".join(empty for name, empty in _EMPTY.items() if f"*{name}\n" not in rules)
        run(["iptables-restore"], environment, given=rules + unwritten)
        tried(["ip", "link", "delete", _BRIDGE], environment)
        _FORWARDING.write_text(forwarding, encoding="utf-8")


def _build_compose(to: Path, environment: Mapping[str, str]) -> None:
    """Build Docker Compose from its source, which Go fetches as it is configured to. Raises NoEngineError, CommandError."""
    if shutil.which("go") is None:
        raise NoEngineError(NO_COMPOSE)
    sys.stderr.write(f"building Docker Compose {COMPOSE_VERSION} with Go, once: some minutes\n")
    named = f"{COMPOSE_MODULE}@{COMPOSE_VERSION}"
    module = json.loads(run(["go", "mod", "download", "-json", named], environment))["Dir"]
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent) as place:
        # Go keeps modules read-only.
        run(["cp", "-r", "--no-preserve=mode", f"{module}/.", place], environment)
        linked = f"-s -w -X {COMPOSE_MODULE}/internal.Version={COMPOSE_VERSION}"
        run(
            ["go", "build", "-trimpath", "-ldflags", linked, "-o", f"{place}/docker-compose", "./cmd"],
            {**environment, "GOFLAGS": "-mod=mod"},
            limit_s=3600,
            at=Path(place),
        )
        Path(place, "docker-compose").replace(to)
