"""The worker's Faust app, real but for Kafka: batches reach their partition's work, and an error ends the process."""

from __future__ import annotations

import subprocess
import sys

from pipeline import topics
from pipeline.worker.app import EXIT_SOFTWARE


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.support.worker_app", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_batch_of_each_topic_reaches_the_work_of_its_partition() -> None:
    ran = _run()
    assert ran.returncode == 0, ran.stderr
    assert [line.split(" ")[0] for line in ran.stdout.splitlines()] == list(topics.INPUTS)


def test_an_error_in_a_unit_ends_the_process_at_once() -> None:
    ran = _run("bad")
    assert ran.returncode == EXIT_SOFTWARE
    assert "worker ends: ValueError: a mistake in a unit of work" in ran.stderr


def test_a_reader_that_nobody_asked_to_stop_ends_the_process_too() -> None:
    ran = _run("stray")
    assert ran.returncode == EXIT_SOFTWARE
    assert "worker ends: ClientCancelledError" in ran.stderr


def test_a_worker_that_is_told_to_stop_is_not_ready_any_more() -> None:
    ran = _run("stops")
    assert (ran.returncode, ran.stdout) == (0, "True (False, {'process': 'stopping'})\n"), ran.stderr
