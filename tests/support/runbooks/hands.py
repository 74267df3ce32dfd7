"""The hands of somebody who follows a runbook: its commands, run on a product that is made of processes of this machine.

Owns: what each command of the runbooks means here. `metering` is run as it stands, and so are Kafka's scripts, by the classes
that they start; `status` and `curl` ask the process that listens there, and statements
are sent to ClickHouse. What Compose shows of a service (`ps`, `logs`) is
shown of the role's process, as there are no containers, and `kubectl` shows nothing.
Called by: tests/support/runbooks/paged.py.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx2

from pipeline.local import broker, jars
from tests.support.deploy import ROOT, read_yaml
from tests.support.product.processes import Role
from tests.support.runbooks.sections import STATEMENTS

TOOLS = Path(__file__).with_name("kafka-tools.txt")
CLASSES = {
    "kafka-console-consumer.sh": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka-consumer-groups.sh": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-log-dirs.sh": "org.apache.kafka.tools.LogDirsCommand",
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-transactions.sh": "org.apache.kafka.tools.TransactionsCommand",
}
"""What Kafka's scripts start."""
SERVICES = frozenset(read_yaml(ROOT / "docker-compose.yml")["services"])
STATUS_PORT, HTTP_PORT = "8001", "8000"
LIMIT_S = 240.0
"""A rebuild waits for over a minute before it begins."""


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    text: str


class Operated(Protocol):
    """What is operated: a deployment of processes of this machine."""

    @property
    def servers(self) -> str:
        """host:port of the brokers."""

    @property
    def http_url(self) -> str:
        """Where the server is asked."""

    def roles(self) -> Sequence[Role]:
        """Return every process."""


@dataclass
class Hands:
    """Runs commands on a product, as its operator."""

    product: Operated
    environment: Mapping[str, str]
    home: Path
    kafka_arguments: Sequence[str] = ()
    """What Kafka's scripts are given beside the brokers' address: how to sign in."""

    def words(self) -> str:
        """Return the last words of every process."""
        return "\n".join(f"--- {role.name}\n{role.words()}" for role in self.product.roles())

    def run(self, command: str, of: Role | None = None, **names: str) -> Said:
        """Run a command of a runbook; words in capitals stand for `names`, and port 8001 for the role `of`.

        Raises AssertionError where nobody knows what the command means.
        """
        filled = re.sub(r"\b[A-Z][A-Z_]+\b", lambda found: names.get(found[0], found[0]), command)
        if filled.split()[0] in STATEMENTS:
            return Said(0, self.sql(filled))
        return self._program(*shlex.split(filled), of=of)

    def _program(self, program: str, *arguments: str, of: Role | None) -> Said:
        if program == "metering":
            return self._done([sys.executable, "-m", "pipeline", *arguments])
        if program in CLASSES:
            return self._kafka(program, list(arguments))
        if program == "status":
            return _asked(self._base(arguments[0], of) + "/healthz")
        if program == "curl":
            (url,) = (each for each in arguments if not each.startswith("-"))
            host, _, path = url.partition("/")
            return _asked(self._base(host.partition(":")[2], of) + f"/{path}")
        if (program, *arguments[:1]) == ("docker", "compose"):
            return self._compose(list(arguments[1:]))
        if program == "kubectl":
            return Said(0, "there is no cluster here")
        raise AssertionError(f"what is `{program}`?")

    def sql(self, statement: str) -> str:
        """Have ClickHouse run a statement, past the product; what it answers. Raises AssertionError where it refuses."""
        url = self.environment["METERING_CLICKHOUSE_URL"]
        answer = httpx2.post(url, content=statement, trust_env=False, verify=False, timeout=60)
        assert answer.status_code == httpx2.codes.OK, f"{statement}: {answer.text}"
        return answer.text

    def _done(self, command: list[str]) -> Said:
        done = subprocess.run(
            command,
            cwd=self.home,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return Said(done.returncode, done.stdout + done.stderr)

    def _kafka(self, script: str, arguments: list[str]) -> Said:
        """Run what a script of Kafka's runs. The broker's address is what the head of the runbooks says to add."""
        path = ":".join(str(each) for each in [*jars.ensure(listing=TOOLS), *jars.ensure()])
        at = ("--bootstrap-server", self.product.servers, *self.kafka_arguments)
        return self._done(broker.java(path, CLASSES[script], *at, *arguments, heap="-Xmx256m"))

    def _base(self, port: str, of: Role | None) -> str:
        if port == HTTP_PORT:
            return self.product.http_url
        assert port == STATUS_PORT and of is not None, f"whose port is {port}?"
        return of.status_url

    def _compose(self, arguments: list[str]) -> Said:
        """Show of roles what Compose shows of its services; a service that is none of the stack is a mistake in the runbook."""
        if arguments[0] == "run":
            assert arguments[1:4] == ["--rm", "-T", "cli"], arguments
            return self._done([sys.executable, "-m", "pipeline", *arguments[4:]])
        verb, *options = arguments
        asked = [each for each in options if not (each.startswith("--") or each.isdigit())]
        assert verb in ("ps", "logs") and set(asked) <= SERVICES, arguments
        roles = [each for each in self.product.roles() if not asked or each.command in asked]
        if verb == "logs":
            return Said(0, "\n".join(each.words() for each in roles))
        lines = (
            f"{each.name} {'running' if each.running else f'exited ({each.process and each.process.poll()})'}"
            for each in roles
        )
        return Said(0, "\n".join(lines))


def _asked(url: str) -> Said:
    """Return a page as curl shows it: its text whatever its status, and curl's own code 7 where nobody answers."""
    try:
        answer = httpx2.get(url, trust_env=False, verify=False, timeout=15)
    except httpx2.TransportError as error:
        return Said(7, repr(error))
    return Said(0, answer.text)
