"""Alerts provoked on real parts under a real Prometheus, and their runbooks followed: `make runbooks`."""
