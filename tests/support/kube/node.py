"""The one node: containerd, kubelet, kube-proxy, and what judges by the network policies.

Owns: the node's namespaces as they are set up from within, and the settings of those programs.
Called by: tests/support/kube/cluster.py. The namespaces are made by tests/support/kube/__main__.py: whatever is mounted,
bridged, routed, filtered or started in them is gone with them.
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.support.kube.control_plane import NODE_IP, POD_NETWORK
from tests.support.kube.processes import Processes
from tests.support.stack.commands import run

NAME = "node"
DNS_IP = "10.96.0.10"
PAUSE = "docker.io/library/metering-pause:kube"
OPEN_FILES = 20_000
CNI_PROGRAMS = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins are."""
CONTAINERD = "unix:///run/containerd/containerd.sock"
_KERNEL = {
    "vm.overcommit_memory": "1",
    "vm.panic_on_oom": "0",
    "kernel.panic": "10",
    "kernel.panic_on_oops": "1",
    "kernel.keys.root_maxkeys": "1000000",
    "kernel.keys.root_maxbytes": "25000000",
}
"""What the kubelet would set for the whole machine: it finds here that it is set already."""
_LINKS = (
    "ip link set lo up",
    # An address that is the node's, and a way to those of Services, which kube-proxy turns into pods' on the way out.
    "ip link add node0 type veth peer name node1",
    f"ip address add {NODE_IP}/32 dev node0",
    "ip link set node0 up",
    "ip link set node1 up",
    "ip route add default dev node0",
    # Each connection's first packet between pods is judged, after a Service's address has become a pod's.
    "iptables --table mangle --append FORWARD --match conntrack --ctstate NEW --jump NFQUEUE --queue-num 100",
)


def furnish(processes: Processes, home: Path) -> None:
    """Give the namespaces a network, and directories of their own where Kubernetes' are fixed. Raises CommandError."""
    for each in ("lib", "log", "cni", "etc"):
        (home / each).mkdir(exist_ok=True)
    (home / "etc" / "resolv.conf").write_text(f"nameserver {DNS_IP}\n", encoding="utf-8")
    for name, value in _KERNEL.items():
        (home / "etc" / name).write_text(value, encoding="utf-8")
    for command in (
        "mount --make-rshared /",
        "mount -t tmpfs run /run",
        f"mount --bind {home}/lib /var/lib",
        f"mount --bind {home}/log /var/log",
        f"mount --bind {home}/etc/resolv.conf /etc/resolv.conf",
        *(f"mount --bind {home}/etc/{name} /proc/sys/{name.replace('.', '/')}" for name in _KERNEL),
        *_LINKS,
    ):
        run(command.split(), processes.environment)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="utf-8")


def start(processes: Processes, programs: Path, kubeconfig: Path, home: Path) -> None:
    """Start the node's programs. Raises AssertionError."""
    (home / "containerd.toml").write_text(_containerd(home), encoding="utf-8")
    (home / "cni" / "10-pods.conflist").write_text(json.dumps(_pod_network()), encoding="utf-8")
    (home / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(home)), encoding="utf-8")
    processes.start("containerd", "containerd", "--config", str(home / "containerd.toml"))
    processes.until(["ctr", "version"], "containerd answers", 60)
    cluster = str(programs / "cluster")
    processes.start(
        "kubelet",
        *(cluster, "kubelet", f"--kubeconfig={kubeconfig}", f"--config={home / 'kubelet.yaml'}"),
        *(f"--hostname-override={NAME}", f"--node-ip={NODE_IP}"),
    )
    processes.start(
        "kube-proxy",
        *(cluster, "kube-proxy", f"--kubeconfig={kubeconfig}", f"--hostname-override={NAME}"),
        *("--proxy-mode=iptables", f"--cluster-cidr={POD_NETWORK}", "--bind-address=127.0.0.1"),
        # Nothing of the machine's own connection tracking is changed.
        *("--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s"),
        "--conntrack-tcp-timeout-close-wait=0s",
    )
    for image in sorted((home / "images").glob("*.tar")):
        run(["ctr", "--namespace", "k8s.io", "images", "import", str(image)], processes.environment)
    processes.start("network-policies", str(programs / "addons"), "network-policies", str(kubeconfig), NAME)


def _containerd(home: Path) -> str:
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Not every root may give a process a better score than its own.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PROGRAMS}"
    conf_dir = "{home / "cni"}"
"""


def _pod_network() -> dict[str, object]:
    """Return how a pod is connected: routed, so that traffic between two pods passes the firewall as any other."""
    addresses = {"type": "host-local", "ranges": [[{"subnet": POD_NETWORK}]], "dataDir": "/run/cni"}
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "ipMasq": False, "ipam": {**addresses, "routes": [{"dst": "0.0.0.0/0"}]}}
        ],
    }


def _kubelet(home: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_IP,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [DNS_IP],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": CONTAINERD,
        "failCgroupV1": False,
        "failSwapOn": False,
        "maxOpenFiles": OPEN_FILES,
        "resolvConf": str(home / "etc" / "resolv.conf"),
        "volumePluginDir": str(home / "volume-plugins"),
        # The machine's disk is not this node's to judge by.
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "imageMinimumGCAge": "24h",
    }
