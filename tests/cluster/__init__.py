"""Three brokers with TLS, passwords and rights, which die in turn under the running product. Not in `make test`."""
