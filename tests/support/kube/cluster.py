"""The running cluster: made inside of the node's namespaces, asked by kubectl and helm.

Owns: the order in which its parts come up, and what is put into it beside the product: names of Services, Kafka,
ClickHouse.
Called by: tests/kube.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.helm.chart import tool
from tests.support.kube import control_plane, node
from tests.support.kube.processes import Processes
from tests.support.stack.commands import run, tried

HERE = Path(__file__).parent
HELM_LIMIT_S = 900.0


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers. `programs` has what was built, `home` its files and logs."""

    programs: Path
    home: Path
    kubeconfig: Path
    processes: Processes

    @property
    def words(self) -> list[str]:
        """The command that is kubectl."""
        return [str(self.programs / "cluster"), "kubectl", "--kubeconfig", str(self.kubeconfig)]

    def kubectl(self, *arguments: str, given: str | None = None, limit_s: float = 300.0) -> str:
        """Return what kubectl printed; `given` is its stdin. Raises CommandError."""
        return run([*self.words, *arguments], self.processes.environment, given=given, limit_s=limit_s)

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return what `kubectl get` finds. Raises CommandError."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "--output", "json", *arguments))
        return found

    def helm(self, *arguments: str) -> str:
        """Return what helm printed. Raises CommandError."""
        helm = tool("helm")
        assert helm is not None, "no helm here: `make helm` builds it"
        words = [helm, "--kubeconfig", str(self.kubeconfig), *arguments]
        return run(words, self.processes.environment, limit_s=HELM_LIMIT_S)

    def says(self) -> str:
        """Return what a person would look at first where something does not come up."""
        asked = (
            ("get", "pods,jobs", "--all-namespaces", "--output", "wide"),
            ("get", "events", "--all-namespaces", "--sort-by", ".lastTimestamp"),
        )
        said = [tried([*self.words, *each], self.processes.environment).stdout for each in asked]
        return "\n".join([*said, self.processes.last("kubelet"), self.processes.last("network-policies")])


@contextmanager
def running(programs: Path, home: Path, environment: Mapping[str, str]) -> Iterator[Cluster]:
    """Yield a cluster of one node that is ready, with names, Kafka and ClickHouse in it. Raises AssertionError, CommandError."""
    logs = home / "logs"
    logs.mkdir()
    processes = Processes(environment, logs)
    try:
        node.furnish(processes, home)
        kubeconfig = control_plane.start(processes, programs / "cluster", home)
        node.start(processes, programs, kubeconfig, home)
        cluster = Cluster(programs, home, kubeconfig, processes)
        processes.until([*cluster.words, "get", "node", node.NAME], "the node is known", 120)
        cluster.kubectl("wait", "--for=condition=Ready", f"node/{node.NAME}", "--timeout=120s")
        processes.until([*cluster.words, "get", "serviceaccount", "default"], "pods can be made", 60)
        yield cluster
    finally:
        processes.stop()
