"""deploy/helm/metering in a Kubernetes that runs: installed, exact under traffic, deleted, killed, upgraded, rolled back, removed.

One node, built from Kubernetes' own source; Kafka and ClickHouse beside the release. The namespace enforces the restricted
pod security standard, and network policies are enforced. The demo's history and its live traffic go through the release
while its pods are deleted, killed and replaced. In the end every event is charged once, balances are right to the
nano-rupee, and `metering verify` is clean.

Not in `make test`: `make kube` runs it (tests/support/kube), which has the programs, the images and the namespaces ready.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.deploy import DEPLOY
from tests.support.kube import cluster
from tests.support.kube.cluster import Cluster
from tests.support.kube.released import CLICKHOUSE, KAFKA, SERVER, Release
from tests.support.stack.composed import eventually
from tests.support.stack.demo import DemoTraffic, under_way

HOME = os.environ.get("METERING_TEST_KUBE", "")
PROGRAMS = os.environ.get("METERING_TEST_KUBE_PROGRAMS", "")
VALUES = Path(__file__).with_name("values.yaml")
SHOWN_LIMIT_S = 180.0
BACK_LIMIT_S = 300.0
BETWEEN_S = 5.0
"""Traffic between two things that are done to the release."""
CHANGED = ("--set", "worker.replicas=3", "--set", "settings.METERING_LOG_FORMAT=json")
_CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
    print("reached")
except TimeoutError:
    print("not reached")
"""

pytestmark = pytest.mark.skipif(not HOME, reason="needs a cluster's programs and namespaces: make kube")


@pytest.fixture(scope="module")
def kube() -> Iterator[Cluster]:
    """The cluster, ready; ended with all of its pods when the namespaces of this process end."""
    began_s = time.monotonic()
    with cluster.running(Path(PROGRAMS), Path(HOME), os.environ) as made:
        print(f"\n{_node(made)} is ready after {time.monotonic() - began_s:.0f} s")
        yield made


def _node(made: Cluster) -> str:
    [node] = made.get("nodes")["items"]
    said = node["status"]["nodeInfo"]
    return f"Kubernetes {said['kubeletVersion']} on {said['containerRuntimeVersion']}"


@pytest.fixture(scope="module")
def release(kube: Cluster) -> Iterator[Release]:
    """The release, installed as docs/kubernetes.md says, and ready."""
    made = Release(kube, VALUES)
    try:
        began_s = time.monotonic()
        made.prepare()
        print(f"Kafka and ClickHouse are ready after {time.monotonic() - began_s:.0f} s")
        began_s = time.monotonic()
        made.helm("install")
        print(f"helm install, its two jobs with it: {time.monotonic() - began_s:.0f} s")
        print(f"every role is ready {made.until_rolled_out():.0f} s later")
        yield made
    except BaseException:
        print(kube.says())
        raise


@pytest.fixture(scope="module")
def demo(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoTraffic]:
    """The demo's history in the release, and its traffic under way."""
    with under_way(release, tmp_path_factory.mktemp("demo")) as traffic:
        yield traffic


def test_a_fresh_release_is_whole_and_nothing_was_started_twice(release: Release) -> None:
    roles = {"worker": 2, "sink": 1, "server": 2, "notary": 1}
    pods = {role: release.pods(role) for role in roles}
    assert {role: len(found) for role, found in pods.items()} == roles
    for role, found in pods.items():
        for pod in found:
            [status] = pod["status"]["containerStatuses"]
            assert (status["ready"], status["restartCount"]) == (True, 0), role
    eventually(lambda: "all is well" in release.operator(["status"]), "all is well", BACK_LIMIT_S)


def test_each_role_reaches_whom_it_is_for_and_nobody_else(release: Release) -> None:
    reached = {
        ("statefulset/metering-sink", CLICKHOUSE, "8123"): True,
        ("statefulset/metering-worker", KAFKA, "9092"): True,
        ("statefulset/metering-worker", CLICKHOUSE, "8123"): False,
        ("statefulset/metering-notary", CLICKHOUSE, "8123"): False,
        ("statefulset/metering-worker", "metering-server", "80"): False,
    }
    assert {asked: _reaches(release, *asked) for asked in reached} == reached


def _reaches(release: Release, target: str, host: str, port: str) -> bool:
    return release.exec(target, "python", "-c", _CONNECT, host, port).strip() == "reached"


def test_pods_are_deleted_killed_and_replaced_under_traffic_and_the_books_stay_exact(
    release: Release, demo: DemoTraffic
) -> None:
    print(release.verify("verify-before"))
    for role in ("worker", "sink", "server"):
        time.sleep(BETWEEN_S)
        _deleted(release, role)
    for role in ("worker", "sink", "server"):
        time.sleep(BETWEEN_S)
        _killed(release, role)
    time.sleep(BETWEEN_S)
    _upgraded(release)
    time.sleep(BETWEEN_S)
    demo.stop()
    due = demo.due()
    eventually(lambda: demo.shown() == due, f"the API shows {due}", SHOWN_LIMIT_S)
    print(release.verify("verify-after"))
    print(f"exact: {sum(each.requests for each in due.values())} requests, {due}")


def _deleted(release: Release, role: str) -> None:
    victim = release.pods(role)[0]["metadata"]
    began_s = time.monotonic()
    release.kubectl("delete", "pod", victim["name"])
    gone_s = time.monotonic() - began_s
    release.until_rolled_out()
    assert victim["uid"] not in {pod["metadata"]["uid"] for pod in release.pods(role)}
    print(
        f"{victim['name']} deleted: gone after {gone_s:.1f} s, ready {time.monotonic() - began_s:.1f} s after"
    )


def _killed(release: Release, role: str) -> None:
    victim = release.pods(role)[0]
    name = victim["metadata"]["name"]
    began_s = time.monotonic()
    release.kill(victim)

    def is_back() -> bool:
        now = {pod["metadata"]["name"]: pod for pod in release.pods(role)}[name]
        [status] = now["status"]["containerStatuses"]
        return bool(status["restartCount"] == _restarts(victim) + 1 and status["ready"])

    eventually(is_back, f"{name} was started again and is ready", BACK_LIMIT_S)
    print(f"{name} killed: ready {time.monotonic() - began_s:.1f} s after")


def _restarts(pod: dict[str, object]) -> int:
    status = pod["status"]
    assert isinstance(status, dict)
    return int(status["containerStatuses"][0]["restartCount"])


def _upgraded(release: Release) -> None:
    before = {pod["metadata"]["uid"] for role in ("worker", "sink", "server") for pod in release.pods(role)}
    began_s = time.monotonic()
    release.helm("upgrade", *CHANGED)
    jobs_s = time.monotonic() - began_s
    release.until_rolled_out()
    after = {pod["metadata"]["uid"] for role in ("worker", "sink", "server") for pod in release.pods(role)}
    assert not before & after
    assert len(release.pods("worker")) == 3
    print(
        f"helm upgrade: {jobs_s:.0f} s with its jobs, every pod replaced {time.monotonic() - began_s:.0f} s after"
    )


def test_an_image_that_does_not_exist_is_taken_back_by_a_rollback(release: Release) -> None:
    release.helm("upgrade", *CHANGED, "--set", "worker.image.tag=absent")

    def is_stuck() -> bool:
        # One pod at a time is replaced, so the others go on.
        states = [pod["status"]["containerStatuses"][0] for pod in release.pods("worker")]
        reasons = [each["state"].get("waiting", {}).get("reason") for each in states]
        return "ErrImageNeverPull" in reasons and sum(each["ready"] for each in states) == 2

    eventually(is_stuck, "one worker waits for its image, and two are ready", BACK_LIMIT_S)
    release.cluster.helm("rollback", "metering", "--namespace", "metering")
    print(f"helm rollback: every role is ready {release.until_rolled_out():.0f} s later")


def test_the_words_of_the_notes_do_what_they_say(release: Release) -> None:
    catalog = (DEPLOY / "catalog.yaml").read_text(encoding="utf-8")
    release.exec(SERVER, "metering", "catalog", "apply", "/dev/stdin", given=catalog)
    release.exec(
        SERVER, "metering", "org", "create", "org_1", "--name", "First", "--email", "first@example.in"
    )
    answer = httpx2.get(f"{release.url}/healthz", trust_env=False, timeout=10)
    assert answer.status_code == httpx2.codes.OK, answer.text


def test_a_secret_is_a_file_that_the_operator_s_pod_may_read(release: Release) -> None:
    release.kubectl("create", "secret", "generic", "catalog", f"--from-file={DEPLOY / 'catalog.yaml'}")
    words = ("catalog", "apply", "/etc/metering/catalog/catalog.yaml")
    print(release.operator(words, "--set", "operator.files.catalog=catalog").strip().splitlines()[-1])


def test_uninstalled_it_leaves_nothing_but_the_operator_s_job(release: Release) -> None:
    release.cluster.helm("uninstall", "metering", "--namespace", "metering")
    eventually(
        lambda: {each for each in release.objects_left() if "operator" not in each} == set(),
        "all but the operator's job is gone",
        BACK_LIMIT_S,
    )
