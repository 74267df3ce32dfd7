"""The product as the chart installs it: a release in a namespace of the restricted pod security standard.

Owns: the steps of docs/kubernetes.md, the release's pods, and how one of their processes is killed.
Called by: tests/kube/test_kube.py.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.helm.chart import CHART
from tests.support.kube.cluster import HERE, Cluster

NAMESPACE = "metering"
RELEASE = "metering"
ROLLED_OUT = ("statefulset/metering-worker", "statefulset/metering-sink", "statefulset/metering-notary")
SERVER = "deployment/metering-server"
KAFKA = "kafka.backends.svc.cluster.local"
CLICKHOUSE = "clickhouse.backends.svc.cluster.local"
READY_LIMIT_S = 600.0
JOB_LIMIT_S = 300.0
_LEVELS = ("enforce", "warn")


@dataclass
class Release:
    """One installation. `values` is its file; `variables` are the secrets that it was given."""

    cluster: Cluster
    values: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where the server's Service is."""
        service = self.cluster.get("--namespace", NAMESPACE, "service", "metering-server")
        return f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"

    @property
    def kafka_url(self) -> str:
        """Where Kafka's Service is."""
        return f"kafka://{KAFKA}:9092"

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Return what kubectl printed of the release's namespace. Raises CommandError."""
        return self.cluster.kubectl("--namespace", NAMESPACE, *arguments, given=given, limit_s=READY_LIMIT_S)

    def prepare(self) -> None:
        """Make what the chart is installed beside: Kafka, ClickHouse, the namespace, and the Secret. Raises CommandError."""
        kubeconfig = f"--from-file=kubeconfig={self.cluster.kubeconfig}"
        self.cluster.kubectl(
            "--namespace", "kube-system", "create", "secret", "generic", "coredns", kubeconfig
        )
        self.cluster.kubectl("apply", "--filename", str(HERE / "names.yaml"))
        password = _clickhouse_password()
        self.cluster.kubectl("apply", "--filename", str(HERE / "backends.yaml"))
        self.cluster.kubectl("create", "namespace", NAMESPACE)
        labels = [f"pod-security.kubernetes.io/{level}=restricted" for level in _LEVELS]
        self.cluster.kubectl("label", "namespace", NAMESPACE, *labels)
        keys = ("METERING_COMMAND_KEY", "METERING_SESSION_SECRET", "METERING_NOTARY_KEY")
        self.variables = {name: secrets.token_hex(32) for name in keys}
        given = {
            name.removeprefix("METERING_").lower().replace("_", "-"): value
            for name, value in self.variables.items()
        }
        given["clickhouse-url"] = f"http://metering:{password}@{CLICKHOUSE}:8123/metering"
        literals = [f"--from-literal={key}={value}" for key, value in given.items()]
        self.kubectl("create", "secret", "generic", "metering", *literals)
        waited = ("wait", "--for=condition=Ready", "pod", f"--timeout={READY_LIMIT_S:.0f}s", "--all")
        for namespace in ("kube-system", "backends"):
            self.cluster.kubectl("--namespace", namespace, *waited, limit_s=READY_LIMIT_S)

    def helm(self, what: str, *arguments: str) -> str:
        """Install or upgrade the release. Raises CommandError."""
        named = (what, RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", str(self.values))
        return self.cluster.helm(*named, "--timeout", "10m", *arguments)

    def until_rolled_out(self) -> float:
        """Return how many seconds it took until every role's pods are those of the release and ready. Raises CommandError."""
        began_s = time.monotonic()
        for each in (*ROLLED_OUT, SERVER):
            self.kubectl("rollout", "status", each, f"--timeout={READY_LIMIT_S:.0f}s")
        return time.monotonic() - began_s

    def pods(self, role: str) -> list[dict[str, Any]]:
        """Return a role's pods."""
        found = self.cluster.get(
            "--namespace", NAMESPACE, "pods", "--selector", f"app.kubernetes.io/component={role}"
        )
        pods: list[dict[str, Any]] = found["items"]
        return pods

    def verify(self, name: str) -> str:
        """Run the CronJob's job at once and return the last line of its log. Raises CommandError."""
        self.kubectl("create", "job", name, "--from=cronjob/metering-verify")
        self._until_complete(name)
        return self.kubectl("logs", f"job/{name}").strip().splitlines()[-1]

    def operator(self, words: Sequence[str], *more: str) -> str:
        """Run one of the operator's commands as docs/kubernetes.md does, and return what it said. Raises CommandError."""
        listed = ",".join(f'"{word}"' for word in words)
        shown = ("--show-only", "templates/operator.yaml", "--set-json", f"operator.args=[{listed}]")
        manifest = self.helm("template", *shown, *more)
        self.kubectl("replace", "--force", "--filename", "-", given=manifest)
        self._until_complete("metering-operator")
        return self.kubectl("logs", "job/metering-operator")

    def _until_complete(self, job: str) -> None:
        self.kubectl("wait", "--for=condition=Complete", f"job/{job}", f"--timeout={JOB_LIMIT_S:.0f}s")

    def exec(self, target: str, *words: str, given: str | None = None) -> str:
        """Run a command in a pod and return what it printed. Raises CommandError."""
        interactive = ["--stdin"] if given is not None else []
        return self.kubectl("exec", *interactive, target, "--", *words, given=given)

    def kill(self, pod: dict[str, Any]) -> None:
        """Kill the process of a pod's container, as a crash would. Raises AssertionError where there is none."""
        uid = pod["metadata"]["uid"]
        groups = {int(at.parent.name): at.read_text() for at in Path("/proc").glob("[0-9]*/cgroup")}
        pids = [pid for pid, text in groups.items() if uid in text]
        ours = [pid for pid in pids if b"metering" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert ours, f"no process of {pod['metadata']['name']} among {pids}"
        for pid in ours:
            os.kill(pid, signal.SIGKILL)

    def objects_left(self) -> list[str]:
        """Return the names of all that has the release's label. Raises CommandError."""
        kinds = "all,networkpolicy,poddisruptionbudget"
        selected = ("--selector", f"app.kubernetes.io/instance={RELEASE}")
        return self.kubectl("get", kinds, "--output", "name", *selected).split()


def _clickhouse_password() -> str:
    """Return what backends.yaml gives ClickHouse's user."""
    manifests = yaml.safe_load_all((HERE / "backends.yaml").read_text(encoding="utf-8"))
    [pod] = [each for each in manifests if each["metadata"]["name"] == "clickhouse" and each["kind"] == "Pod"]
    environment = {each["name"]: each["value"] for each in pod["spec"]["containers"][0]["env"]}
    return str(environment["CLICKHOUSE_PASSWORD"])
