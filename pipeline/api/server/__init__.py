"""Composition: the app out of its routers, and the process that serves it."""
