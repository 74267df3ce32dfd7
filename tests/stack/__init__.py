"""docker-compose.yml in containers, for real. Not in `make test`: `make stack` runs it."""
