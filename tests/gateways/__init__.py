"""Gateways without our library before the running product: those of `examples/`, and librdkafka."""
