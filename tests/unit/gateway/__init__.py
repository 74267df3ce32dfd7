"""Tests of the gateway library that need no broker."""
