"""An upgrade with real processes: a minute of starting and stopping, so `make upgrade` runs it and `make test` does not."""
