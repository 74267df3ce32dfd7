"""The board's panels over the demo and a real Prometheus: minutes, so `make board` and not `make test`."""
