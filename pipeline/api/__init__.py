"""The HTTP API: reads ClickHouse, and writes only by sending commands to an org's one writer."""
