"""The API in the process of a test, and the list of its routes."""
