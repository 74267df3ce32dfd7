"""The debit path as a Kafka Streams application: compiled where a JDK is there, run on the worker's own input.

Owns: the JDK and the jars that it takes, its topics, its process, and the check that it charged the same.
Called by: `bench/debit.py`. Next: `bench/peers/kafka_streams/`, whose README says what is compared.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.processes import Bench, Process
from pipeline import topics
from pipeline.kafka.bounded import read_to_end
from pipeline.kafka.fenced import read_compacted
from pipeline.local import jars
from pipeline.posting.state import PartitionState

SOURCES = Path(__file__).parent / "peers" / "kafka_streams"
RELEASE = 17
"""The release of Java that the sources are written for."""

LEFT_OUT = (
    f"Kafka Streams is left out: no javac of Java {RELEASE} or later is on the path (a JDK has it, such as "
    f"Debian's openjdk-{RELEASE}-jdk-headless)."
)
WARM_UP_S_MAX = 900

_HEAP = ("-Xms2g", "-Xmx2g", "-XX:+UseParallelGC")
_ORG, _COST = 1, -2
"""Where the org and the cost stand in a row of its journal."""

_decode_rows = msgspec.json.Decoder(list[object]).decode_lines


def javac() -> Path | None:
    """Return the machine's Java compiler, None where there is none that knows the release."""
    found = shutil.which("javac")
    if found is None:
        return None
    # Its words: `javac 17.0.15`, or `javac 1.8.0_402` for releases before 9.
    said = subprocess.run([found, "-version"], capture_output=True, text=True, check=True)
    major = int((said.stdout + said.stderr).split()[1].split(".")[0])
    return Path(found) if major >= RELEASE else None


def compile_to(classes: Path, compiler: Path) -> str:
    """Compile the peer and return the class path that it runs with. Raises CalledProcessError where that fails."""
    own = jars.ensure(Path(sys.prefix) / "share" / "kafka-streams", SOURCES / "jars.txt")
    path = ":".join(str(jar) for jar in [*own, *jars.ensure()])
    sources = [str(source) for source in sorted(SOURCES.glob("*.java"))]
    command = [
        str(compiler),
        "-Xlint:all",
        "-Werror",
        "--release",
        str(RELEASE),
        "-cp",
        path,
        "-d",
        str(classes),
    ]
    subprocess.run([*command, *sources], check=True)
    return f"{classes}:{path}"


class Streams:
    """The application under one id, with `rows_a_record` rows at most in a record of its journal."""

    def __init__(self, run: Bench, name: str, rows_a_record: int) -> None:
        """Prepare; `start` starts it. `name` is its id, and so its consumer group."""
        self._run, self.group, self._rows_a_record = run, name, rows_a_record
        self.is_ours = f"{name}: partition"
        """What it says once it has restored a partition in its last pass, before it reads any input of it."""

    async def start(self, compiler: Path, warm_up_passes: int) -> Process:
        """Make its topics, start it, and return when it is warm. Raises what a failed compilation or process does."""
        run = self._run
        passes, outputs = (self.group, f"{self.group}.warm"), ("journal", "moved", "dead-letters")
        config = {"max.message.bytes": str(topics.OUTPUT_BYTES_MAX)}
        admin = AIOKafkaAdminClient(bootstrap_servers=run.servers)
        await admin.start()
        await admin.create_topics(
            [
                NewTopic(f"{a_pass}.{output}", run.partitions, 1, topic_configs=config)
                for a_pass in passes
                for output in outputs
            ]
        )
        await admin.close()
        class_path = await asyncio.to_thread(compile_to, run.home / "classes", compiler)
        # The Java of that compiler: it runs what it compiles.
        java = compiler.resolve().with_name("java")
        numbers = [str(run.partitions), str(warm_up_passes), str(self._rows_a_record)]
        process = run.other(
            self.group,
            [
                str(java),
                *_HEAP,
                "-cp",
                class_path,
                "peer.Peer",
                run.servers,
                str(run.home / "streams"),
                *numbers,
                self.group,
            ],
        )
        async with asyncio.timeout(WARM_UP_S_MAX):
            while self.is_ours not in process.log.read_text():
                process.check()
                await asyncio.sleep(0.1)
        return process

    async def check_same(self, events: int) -> None:
        """Raise RuntimeError unless it charged every event, and each org to the nano-rupee what the worker did."""
        run, rows, theirs = self._run, 0, Counter[str]()
        ours = await _charged_by_worker(run)
        for p in range(run.partitions):
            async for records in read_to_end(run.connection, TopicPartition(f"{self.group}.journal", p)):
                for row in (row for record in records for row in _decode_rows(record.value)):
                    theirs[str(row[_ORG])] += int(str(row[_COST]))
                    rows += 1
        if rows != events:
            raise RuntimeError(f"Kafka Streams charged {rows} of {events} events")
        for org in {**ours, **theirs}:
            if ours[org] != theirs[org]:
                raise RuntimeError(
                    f"{org}: {ours[org]} nano-rupees by the worker, {theirs[org]} by Kafka Streams"
                )


async def _charged_by_worker(run: Bench) -> Counter[str]:
    """Return what the worker has debited each org, in nano-rupees."""
    debited = Counter[str]()
    for p in range(run.partitions):
        records = await read_compacted(run.connection, TopicPartition(topics.STATE, p))
        state = PartitionState.restored(p, run.partitions, records)
        debited.update({org: state.account(org).spending.debited_nano for org in state.orgs()})
    return debited
