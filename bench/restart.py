"""(e) A restart with a million accounts: time to the first debit, and memory of an idle account.

Owns: filling the state topic with the product's own encoding, and timing a real worker on it.
Called by: `bench/__main__.py`.
"""

from __future__ import annotations

import time

from bench.debit import GROUP, IS_OURS, Load, fill
from bench.kafka import requests_places, run_out
from bench.processes import bench
from bench.report import Report


async def restart(*, accounts: int) -> Report:
    """(e) From the start of the process to its first committed debit, beside a worker with few accounts."""
    report = Report(
        "e",
        "restart of a worker, 4 partitions, 3 keys an account",
        (
            "accounts",
            "s to restored",
            "s to the last of 4,000 debits",
            "MB resident",
            "bytes an idle account",
        ),
    )
    small_bytes = 0
    for orgs in (1_000, accounts):
        load = Load(4_000, orgs=orgs, registered_keys=3)
        async with bench(load.partitions) as run:
            await fill(run, load)
            started = time.monotonic()
            worker = run.worker()
            samples = await run_out(
                run.servers, GROUP, requests_places(load.partitions), worker, ready_words=IS_OURS
            )
            memory = worker.memory_bytes
        an_account = (memory - small_bytes) / (orgs - 1_000) if small_bytes else None
        small_bytes = small_bytes or memory
        report.add(orgs, samples[0].at_s - started, samples[-1].at_s - started, memory / 1e6, an_account)
    return report
