"""ClickHouse for tests over HTTP: the embedded engine behind its interface, and how that misbehaves."""
