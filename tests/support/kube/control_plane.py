"""Kubernetes' control plane: etcd, API server, controllers, scheduler, as processes of this machine.

Owns: their flags, the one token that everybody here uses, and the kubeconfig with it.
Called by: tests/support/kube/cluster.py, inside of the node's namespaces, where all ports are free.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from tests.support.kube.processes import Processes
from tests.support.stack.commands import run

NODE_IP = "10.250.0.1"
POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
API_PORT = 6443
API = f"https://{NODE_IP}:{API_PORT}"
_ETCD = "http://127.0.0.1:2379"
_PEERS = "http://127.0.0.1:2380"


def start(processes: Processes, program: Path, home: Path) -> Path:
    """Start the control plane and return the kubeconfig, as soon as the API server is ready. Raises AssertionError."""
    token = secrets.token_hex(16)
    kubeconfig = _kubeconfig(home / "kubeconfig", token)
    (home / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n', encoding="utf-8")
    key = home / "service-accounts.pem"
    run(["openssl", "genrsa", "-out", str(key), "2048"], processes.environment)
    processes.start(
        "etcd",
        *(str(program), "etcd", "--data-dir", str(home / "etcd"), "--unsafe-no-fsync"),
        *("--listen-client-urls", _ETCD, "--advertise-client-urls", _ETCD),
        *("--listen-peer-urls", _PEERS, "--initial-advertise-peer-urls", _PEERS),
        *("--initial-cluster", f"default={_PEERS}"),
    )
    processes.start(
        "kube-apiserver",
        *(str(program), "kube-apiserver", f"--etcd-servers={_ETCD}", f"--cert-dir={home / 'certificates'}"),
        *(f"--bind-address={NODE_IP}", f"--advertise-address={NODE_IP}", f"--secure-port={API_PORT}"),
        *(f"--service-cluster-ip-range={SERVICE_NETWORK}", f"--token-auth-file={home / 'tokens.csv'}"),
        *("--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=RBAC"),
        "--kubelet-preferred-address-types=InternalIP",
        *(f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"),
    )
    kubectl = [str(program), "kubectl", "--kubeconfig", str(kubeconfig)]
    processes.until([*kubectl, "get", "--raw", "/readyz"], "the API server is ready", 180)
    processes.start(
        "kube-controller-manager",
        *(str(program), "kube-controller-manager", f"--kubeconfig={kubeconfig}", "--leader-elect=false"),
        *(f"--service-account-private-key-file={key}", "--bind-address=127.0.0.1"),
        # A pod that is gone is replaced at once anyway; a node that is slow under load is no lost node.
        "--node-monitor-grace-period=300s",
    )
    processes.start(
        "kube-scheduler",
        *(str(program), "kube-scheduler", f"--kubeconfig={kubeconfig}", "--leader-elect=false"),
        "--bind-address=127.0.0.1",
    )
    return kubeconfig


def _kubeconfig(to: Path, token: str) -> Path:
    """Write how to reach the API server. It has a certificate of its own making, which nobody checks here."""
    said = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "admin"}}],
        "clusters": [{"name": "here", "cluster": {"server": API, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "admin", "user": {"token": token}}],
    }
    to.write_text(json.dumps(said), encoding="utf-8")
    return to
