"""Panels of the board: each process, its memory, its processor, how often it started, and of which release it is.

Owns: this row. Called by: `board.py`.
"""

from __future__ import annotations

from graphs import RATE, Graph, Query, Row

PROCESSES = Row(
    "Processes",
    (
        Graph(
            "Memory",
            "Resident, by process. A worker holds the accounts of its partitions.",
            "bytes",
            (
                Query(
                    'process_resident_memory_bytes{job=~"worker|sink|server|notary"}', "{{job}} {{instance}}"
                ),
            ),
        ),
        Graph(
            "Processor",
            "Cores in use, by process. A worker uses one at most: at 0.9, add workers.",
            "short",
            (
                Query(
                    f'rate(process_cpu_seconds_total{{job=~"worker|sink|server|notary"}}{RATE})',
                    "{{job}} {{instance}}",
                ),
            ),
        ),
        Graph(
            "Starts in 15 minutes",
            "A worker that starts again and again ends with code 70; its log says why.",
            "short",
            (
                Query(
                    'sum by (job) (changes(process_start_time_seconds{job=~"worker|sink|server|notary"}[15m]))',
                    "{{job}}",
                ),
            ),
            alerts_above=2,
            runbook="docs/runbooks.md#meteringrestarts",
        ),
        Graph(
            "Releases",
            "Processes by role and release. More than one release for long: a rollout stands.",
            "short",
            (Query("count by (job, version) (metering_build_info)", "{{job}} {{version}}"),),
        ),
    ),
)
