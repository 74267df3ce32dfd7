"""Benchmarks: programs that print each figure beside its peer or limit of the same run. `python -m bench`."""
