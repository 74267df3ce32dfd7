"""Run the simulation: `python -m tests.simulation --seeds 0-399`, or `--seed 7` to replay one.

The exit code is 1 where the books and the truth differ. A seed with its number of events, and its mutant
where there is one, is the same run for ever.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.simulation import runs, table
from tests.simulation.mutants import MUTANTS

EVENTS_A_SEED = 2_200


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments say and print the table; the exit code."""
    chosen = _parser().parse_args(arguments)
    if chosen.list_mutants:
        for mutant in MUTANTS.values():
            print(f"{mutant.name:24} {mutant.what}")
        return 0
    seeds = [chosen.seed] if chosen.seed is not None else _seeds(chosen)
    started = time.perf_counter()
    total = table.Total()
    for result in runs.run_many(seeds, chosen.events, chosen.mutant, chosen.jobs):
        total.add(result)
        if result.differences:
            print("\n".join(table.report(result, chosen.events, chosen.mutant)), flush=True)
        if len(seeds) == 1:
            print(f"seed {result.seed}, run {result.digest}")
    seconds = time.perf_counter() - started
    print("\n".join(total.lines()))
    accepted = total.counts["events accepted"]
    print(f"\n{accepted / seconds:,.0f} events a second with {chosen.jobs} processes, {seconds:.0f} s")
    return 1 if total.failed else 0


def _seeds(chosen: argparse.Namespace) -> list[int]:
    first, last = chosen.seeds
    if chosen.total is None:
        return list(range(first, last + 1))
    return list(range(first, first + max(1, chosen.total // chosen.events)))


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    try:
        found = int(first), int(last or first)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 0-399") from None
    if found[0] > found[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is empty")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=_range, default=(0, 399), metavar="A-B", help="default: 0-399")
    parser.add_argument("--seed", type=int, help="replay one seed")
    parser.add_argument("--events", type=int, default=EVENTS_A_SEED, help="events a seed, default: 2200")
    parser.add_argument("--total", type=int, help="as many seeds, from A on, as this many events take")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="default: one a core")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="plant a known mistake")
    parser.add_argument("--list-mutants", action="store_true", help="tell the known mistakes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
