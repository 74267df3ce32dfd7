"""What `make kube` is made of: Kubernetes built from its source, one node in namespaces of its own, Kafka and ClickHouse in it.

The program is `python -m tests.support.kube`; what it asserts is in tests/kube.
"""
