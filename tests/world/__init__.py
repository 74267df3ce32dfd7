"""All that providers, producers, payers and operators do, to one product: minutes, so `make world` and not `make test`."""
