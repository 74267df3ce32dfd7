"""Kafka as a company runs it, for tests: TLS, passwords, rights, one node or several."""
