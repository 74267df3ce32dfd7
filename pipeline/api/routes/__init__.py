"""The routes: one module a router."""
