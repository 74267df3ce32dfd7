"""What `make stack` is made of: an engine, the images, the stack of docker-compose.yml, and the demo's traffic through it.

The program is `python -m tests.support.stack`; what it asserts is in tests/stack.
"""
