"""Run benchmarks: `python -m bench` for a quick version of all, `python -m bench a --full` for one in full.

Owns: the command line, the order, and that each table is printed and saved as soon as it is there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

import uvloop

from bench import (
    answers,
    debit,
    floods,
    forecasts,
    gateway,
    pages,
    past,
    proofs,
    recovery,
    restart,
    starts,
    whole,
)
from bench.report import Report, machine

QUICK_EVENTS = 5_000_000


def _benchmarks(arguments: argparse.Namespace) -> dict[str, Callable[[], Coroutine[None, None, Report]]]:
    full = arguments.full
    return {
        "a": lambda: debit.debit_path(full=full),
        "b": lambda: whole.whole(full=full),
        "c": lambda: whole.freshness(full=full),
        "d": lambda: debit.grid(full=full),
        "e": lambda: restart.restart(accounts=1_000_000 if full else 100_000),
        "f": lambda: answers.answers(events=arguments.events, full=full, keep=arguments.keep),
        **{name: partial(run, full=full) for name, run in gateway.BENCHMARKS.items()},
        "h": lambda: floods.floods(full=full),
        "p": lambda: forecasts.forecasts(full=full),
        "r": lambda: recovery.recovery(full=full),
        "s": lambda: starts.starts(full=full),
        "t": lambda: past.past(events=arguments.events, full=full, keep=arguments.keep),
        "v": lambda: proofs.proofs(full=full),
        "w": lambda: pages.pages(full=full),
    }


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", help="which: a b c d e f g1 g2 g3 g4 h p r s t v w; all where none is named"
    )
    parser.add_argument("--full", action="store_true", help="more runs, larger loads, the whole grid")
    parser.add_argument(
        "--events", type=int, default=QUICK_EVENTS, help="(f, t) how many events to answer from"
    )
    parser.add_argument(
        "--keep", type=Path, help="(f, t) a directory for the events, to use them again: for one of the two"
    )
    arguments = parser.parse_args()
    known = _benchmarks(arguments)
    unknown = set(arguments.names) - set(known)
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    print(json.dumps(machine(), indent=1), "\n")
    # Ended from outside, it still ends the processes it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for name in arguments.names or known:
        # In `f` and `t` this process is the server, which runs on uvloop.
        run = uvloop.run if name in ("f", "t") else asyncio.run
        report = run(known[name]())
        report.save()
        print(report.markdown(), flush=True)


if __name__ == "__main__":
    main()
