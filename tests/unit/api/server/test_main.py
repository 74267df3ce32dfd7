"""What a server takes from its settings and the system: connections by open files, and which metrics it shows."""

from __future__ import annotations

import json
import subprocess
import sys

from pipeline.api.server.main import metric_groups
from pipeline.settings import Settings
from pipeline.telemetry import NOTARY, SINK, shown_by
from tests.support.builders import NOTARY_KEY

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


def test_metrics_of_what_runs_elsewhere_are_not_shown() -> None:
    whole = Settings(kafka_url="kafka://k:9092", notary_key=NOTARY_KEY)
    assert metric_groups(whole) == shown_by("server")
    apart = whole.model_copy(update={"server_sink": False, "notary_key": None})
    assert set(shown_by("server")) - set(metric_groups(apart)) == {SINK, NOTARY}
