"""Admission: whether a key's org may make a request now, decided in memory. No I/O."""
