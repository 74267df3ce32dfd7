"""TCP ports of this machine: which are free.

Owns: the check, and what is said where a port is taken.
Called by: `local/broker.py` and `local/supervisor.py`.
"""

from __future__ import annotations

import errno
import socket

from pipeline.local.errors import LocalError


def free(host: str = "127.0.0.1") -> int:
    """Return a port nobody listens on now."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as listener:
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
        return port


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a server could listen on the port now. Raises LocalError on a host that is not ours."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as listener:
        # As servers do: connections of an earlier one that are still closing are no obstacle.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise LocalError(f"cannot listen on {host}: {error.strerror}") from error
        return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
