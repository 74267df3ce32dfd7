"""`make kube`: build Kubernetes, make the images, and try the Helm chart in a cluster of one node.

Owns: the order of things, the words for people, and the namespaces that all of the cluster lives in.
Next: tests/support/kube/programs.py, tests/support/kube/cluster.py, tests/kube/test_kube.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.deploy import ROOT
from tests.support.kube import node, programs, scratch_image
from tests.support.stack import engine, images
from tests.support.stack.commands import CommandError, run, say
from tests.support.stack.engine import NoEngineError

BACKENDS = ("apache/kafka", "clickhouse/clickhouse-server")
NAMESPACES = ("--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc")
"""Whatever the cluster mounts, bridges, filters or starts is in these, and gone with them."""


def main() -> int:
    """Run it all; 0 where it cannot run here, and says why."""
    # What was started has to be ended, whoever ends us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    lacking = programs.lacking(dict(os.environ))
    if lacking:
        say(f"make kube: skipped, {lacking}")
        return 0
    try:
        built = programs.built(dict(os.environ), say)
        # A run that was killed may have left them, and a kubelet would look for their containers.
        programs.remove_cgroups()
        with tempfile.TemporaryDirectory(prefix="metering-kube-", ignore_cleanup_errors=True) as place:
            _images(Path(place) / "images", built)
            try:
                return _tests(built, Path(place))
            finally:
                programs.remove_cgroups()
    except NoEngineError as error:
        say(f"make kube: skipped, images cannot be built. {error}")
        return 0
    except CommandError as error:
        say(f"make kube: {error}")
        return 1


def _images(to: Path, built: Path) -> None:
    """Put there every image of the cluster as a tar. Raises NoEngineError, CommandError."""
    to.mkdir()
    scratch_image.write(to / "pause.tar", node.PAUSE, built / "addons", ["pause"])
    scratch_image.write(to / "addons.tar", "metering-addons:kube", built / "addons", [])
    with engine.running() as environment:
        say(engine.version(environment))
        wanted = [image for image in images.foreign() if image.startswith((images.base(), *BACKENDS))]
        with images.prepared(environment, say, wanted):
            for number, image in enumerate([images.PRODUCT, *wanted[1:]]):
                run(["docker", "save", "--output", str(to / f"{number}.tar"), image], environment)


def _tests(built: Path, home: Path) -> int:
    environment = {**os.environ, "METERING_TEST_KUBE": str(home), "METERING_TEST_KUBE_PROGRAMS": str(built)}
    # An editor's or a user's own kubeconfig is none of ours.
    environment.pop("KUBECONFIG", None)
    words = [sys.executable, "-m", "pytest", "-s", "-n", "0", "--timeout", "1800", "tests/kube"]
    # In a session of its own, so that Ctrl-C reaches it once, from here.
    tests = subprocess.Popen(
        ["unshare", *NAMESPACES, *words], env=environment, cwd=ROOT, start_new_session=True
    )
    try:
        return tests.wait()
    finally:
        # The first process of the namespaces goes with it, and all others with that one.
        tests.kill()
        tests.wait()


if __name__ == "__main__":
    sys.exit(main())
