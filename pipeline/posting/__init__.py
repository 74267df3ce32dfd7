"""Posting: a unit of work's records in, everything it writes out. Pure; the worker commits the result."""
