"""How many connections a server allows, by the open files that the system gives it."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import json, resource
from pipeline.api.server.main import connections_allowed
found = []
for soft, hard in ((64, 10_000), (64, 1_000), (64, 100)):
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    found.append([connections_allowed(), resource.getrlimit(resource.RLIMIT_NOFILE)[0]])
print(json.dumps(found))
"""


def test_files_are_kept_for_what_is_no_connection_of_a_client() -> None:
    """In a process of its own: a limit that was lowered cannot be raised again."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == [[2048, 2560], [488, 1000], [1, 100]]
