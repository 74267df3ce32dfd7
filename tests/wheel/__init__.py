"""The wheel in an empty place: it is installed with all it needs, which takes minutes, so `make wheel` runs it."""
