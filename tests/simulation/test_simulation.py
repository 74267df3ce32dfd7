"""The books hold in simulation: a quarter of a million events, thousands of crashes, nothing lost, doubled or wrong.

`make simulate` takes four times as many seeds, or as many as one likes.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation import __main__ as command
from tests.simulation import runs, table
from tests.simulation.mutants import MUTANTS

SEEDS = range(100)
EVENTS_LEAST, CRASHES_LEAST = 250_000, 2_500


@pytest.mark.timeout(900)
def test_nothing_is_lost_doubled_or_wrong() -> None:
    total = table.Total()
    for result in runs.run_many(SEEDS, command.EVENTS_A_SEED, jobs=os.cpu_count() or 1):
        total.add(result)
    print("\n".join(total.lines()))
    replays = [line for r in total.failed for line in table.report(r, command.EVENTS_A_SEED, None)]
    assert not total.failed, "\n".join(replays)
    assert total.counts["events accepted"] >= EVENTS_LEAST
    assert total.counts["crashes"] >= CRASHES_LEAST
    assert not total.never, "these faults never happened"


@pytest.mark.parametrize("seed", [57, 64])
def test_numbered_letters_are_charged_once_however_small_the_memory(seed: int) -> None:
    """Of the events without a number the memory forgets some here: it holds 320, and 7 of 10 events are letters at first."""
    result = runs.run(seed, 1_200, alike="letters_forgotten", conditions={"unpriced": 0.7})
    twice = [what for check, what in result.differences if check == "charged twice"]
    assert not [what for what in twice if "plain/" not in what]
    whole = {"unpriced": 0.7, "ring": (8, 400)}
    assert not runs.run(seed, 1_200, alike="letters_forgotten", conditions=whole).differences


@pytest.mark.parametrize("mutant", [None, "no_fencing"])
def test_a_seed_is_the_same_run_in_any_process(mutant: str | None) -> None:
    """A failing seed is worth nothing unless it fails again, whatever the hash seed of the process."""
    code = (
        f"from tests.simulation.runs import run; r = run(5, 800, {mutant!r}); print(r.digest, r.differences)"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(told) == 1
    assert ("[]" in told.pop()) is (mutant is None)


def test_seeds_differ() -> None:
    digests = {result.digest for result in runs.run_many(range(5), 200)}
    assert len(digests) == 5


def test_a_failing_seed_says_how_to_replay_it(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--seed", "0", "--events", "600", "--mutant", "duplicate_check_off"]
    assert command.main(arguments) == 1
    said = capsys.readouterr().out
    assert "python -m tests.simulation --seed 0 --events 600 --mutant duplicate_check_off" in said
    assert "charged twice" in said


def test_a_clean_range_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--seeds", "0-1", "--events", "200", "--jobs", "1"]) == 0
    assert "| **lost, doubled or wrong** | **0** |" in capsys.readouterr().out
    assert command.main(["--list-mutants"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in MUTANTS)


@pytest.mark.parametrize("text", ["b", "7-3", "1-x"])
def test_a_range_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--seeds", text])
    assert "--seeds" in capsys.readouterr().err
