"""The Helm chart in a cluster that runs: `make kube`."""
