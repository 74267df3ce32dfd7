"""Fuzz by a seed: spoilt Kafka records through the core or the whole product, or malformed HTTP requests at its doors.

`python -m tests.fuzz --records 1000000 --seed 7` posts records (`tests/fuzz/records.py`); the same seed posts the same
ones. `--posted 100000` sends them to the topics of a product of its own instead (`tests/fuzz/posted.py`), and
`--requests 100000` sends requests to it, one in fifty of them made from the OpenAPI document, which takes long
(`tests/fuzz/doors.py`). Exit code 1 where something went wrong, and what it was.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time

from tests.fuzz.doors import UNLIMITED, fuzz_doors
from tests.fuzz.posted import fuzz_topics
from tests.fuzz.records import fuzz
from tests.support.product.razorpay import shop

DOCUMENTED_SHARE = 50


def _records(count: int, seed: int) -> list[str]:
    ledger, wrong = fuzz(count, seed)
    _say(sorted(ledger.counts.items()))
    return [] if wrong is None else [wrong]


def _requests(count: int, seed: int, limit_s: float) -> list[str]:
    with shop(**UNLIMITED) as running:
        documented = count // DOCUMENTED_SHARE
        fuzzed = fuzz_doors(running, count - documented, documented, seed, limit_s)
    _say([*sorted(fuzzed.kinds.items()), *((str(s), n) for s, n in sorted(fuzzed.statuses.items()))])
    return fuzzed.wrong


def _posted(count: int, seed: int) -> list[str]:
    with shop() as running:
        fuzzed = fuzz_topics(running, count, seed)
    _say(sorted(fuzzed.kinds.items()))
    return fuzzed.wrong


def _say(counts: list[tuple[str, int]]) -> None:
    for name, count in counts:
        sys.stdout.write(f"{count:>12,} {name}\n")


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--posted", type=int, default=0)
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of raw requests, at most")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    # Ended from outside, it still ends the processes it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    if given.requests:
        wrong = _requests(given.requests, given.seed, given.seconds)
    elif given.posted:
        wrong = _posted(given.posted, given.seed)
    else:
        wrong = _records(given.records, given.seed)
    sys.stdout.write(f"{time.monotonic() - started:>12,.1f} seconds\n")
    sys.stdout.write("\n".join([*wrong, "this went wrong" if wrong else "nothing went wrong"]) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
