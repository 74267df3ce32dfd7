"""Send commands to the accounts' owners and wait for their answers, both through Kafka.

Owns: the way of a command from the API or the command line to the worker and back, with a time limit.
Called by: `api/` and `cli/`. Next: `posting/commands.py`, in the worker.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline import request_id, topics
from pipeline.accounts.authentication import CommandKeys
from pipeline.accounts.commands import (
    AccountCommand,
    Barrier,
    Command,
    CommandRefusal,
    NoteStray,
    R,
    Reply,
    TellStatements,
    answer_of,
    decode_command,
    decode_reply,
    encode,
)
from pipeline.accounts.results import BarrierReached, StatementsTold
from pipeline.connection import KafkaConnection
from pipeline.kafka.clients import producer
from pipeline.kafka.follow import Subscription, TopicFollower
from pipeline.kafka.partitions import partition_count
from pipeline.partitioning import partition_of

C = TypeVar("C", bound=Command[Any])

ANSWER_LIMIT_S = 6.0


class UnavailableError(Exception):
    """No answer came in time. The command may still be carried out; the same id tells what became of it."""


class InvalidCommandError(ValueError):
    """A field of a command is too long or out of range."""


class CommandRefusedError(Exception):
    """A command was refused by its owner, where the caller cannot go on without its result."""

    def __init__(self, refusal: CommandRefusal) -> None:
        """Say why."""
        super().__init__(f"{refusal.code}: {refusal.message}")
        self.refusal = refusal


def new_command_id() -> str:
    """Return an id for a command that nobody will repeat."""
    return f"cmd_{uuid.uuid4().hex}"


class CommandClient:
    """Sends commands and matches the replies to them by id."""

    def __init__(self, kafka: KafkaConnection, keys: CommandKeys) -> None:
        """Prepare; nothing is connected before `start`. `keys` are those that the workers know."""
        self._kafka, self._keys = kafka, keys
        self._partitions = 0
        self._producer: AIOKafkaProducer | None = None
        self._follower = TopicFollower(kafka, [Subscription(topics.REPLIES, self._take)], from_end=True)
        self._waiting: dict[str, list[asyncio.Future[Reply]]] = {}

    @property
    def partitions(self) -> int:
        """How many partitions there are, once it has started."""
        return self._partitions

    async def start(self) -> None:
        """Connect. Raises a KafkaError, TimeoutError or PartitionsError where that cannot be done."""
        self._partitions = await partition_count(self._kafka)
        self._producer = producer(self._kafka, request_timeout_ms=10_000)
        await self._producer.start()
        await self._follower.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._follower.stop()
        if self._producer is not None:
            await self._producer.stop()

    async def send(self, command: AccountCommand[R], limit_s: float = ANSWER_LIMIT_S) -> R | CommandRefusal:
        """Send a command to its org's owner and return its result, or why it was refused.

        Raises UnavailableError, and InvalidCommandError for one that its owner would not even read.
        """
        partition = partition_of(command.org, self._partitions)
        reply = await self._ask(_checked(command), partition, command.org, limit_s)
        return answer_of(type(command), reply)

    async def note(self, command: NoteStray, limit_s: float = ANSWER_LIMIT_S) -> None:
        """Have a payment that is no org's kept, durably. Raises UnavailableError and InvalidCommandError."""
        partition = partition_of(command.payment_id, self._partitions)
        await self._ask(_checked(command), partition, None, limit_s)

    async def barrier(
        self,
        catalog_offset: int = 0,
        limit_s: float = ANSWER_LIMIT_S,
        *,
        promos_offset: int = 0,
        gateways_offset: int = 0,
    ) -> list[BarrierReached]:
        """Return once the owner of every partition has read these topics up to an offset each: their answers.

        Raises UnavailableError naming a partition that nobody answered for.
        """
        offsets = (catalog_offset, promos_offset, gateways_offset)
        return await asyncio.gather(
            *(
                self._barrier(Barrier(new_command_id(), *offsets), partition, limit_s)
                for partition in range(self._partitions)
            )
        )

    async def ask_owner(self, partition: int, limit_s: float = ANSWER_LIMIT_S) -> None:
        """Return once the owner of a partition has answered. Raises UnavailableError."""
        await self._barrier(Barrier(new_command_id()), partition, limit_s)

    async def tell_statements(
        self, partition: int, month: int, limit_s: float = ANSWER_LIMIT_S
    ) -> StatementsTold:
        """Have the owner of a partition tell some of its orgs of a month's statement. Raises UnavailableError."""
        command = TellStatements(new_command_id(), month)
        answer = answer_of(TellStatements, await self._ask(command, partition, None, limit_s))
        assert isinstance(answer, StatementsTold), "an owner never refuses to tell"
        return answer

    async def _barrier(self, command: Barrier, partition: int, limit_s: float) -> BarrierReached:
        answer = answer_of(Barrier, await self._ask(command, partition, None, limit_s))
        assert isinstance(answer, BarrierReached), "an owner never refuses a barrier"
        return answer

    async def _ask(self, command: Command[R], partition: int, org: str | None, limit_s: float) -> Reply:
        assert self._producer is not None
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(command.id, []).append(answer)
        value, at_ms = encode(command), time.time_ns() // 1_000_000
        try:
            async with asyncio.timeout(limit_s):
                await self._producer.send_and_wait(
                    topics.BILLING,
                    value,
                    key=org.encode() if org is not None else None,
                    partition=partition,
                    headers=[*self._keys.headers(value, partition, at_ms), *request_id.headers()],
                )
                return await answer
        except (TimeoutError, KafkaError) as error:
            raise UnavailableError(f"no answer for partition {partition} within {limit_s:g} s") from error
        finally:
            self._waiting[command.id].remove(answer)
            if not self._waiting[command.id]:
                del self._waiting[command.id]

    def _take(self, _key: bytes, value: bytes) -> None:
        reply = decode_reply(value)
        for waiting in self._waiting.get(reply.id, ()):
            if not waiting.done():
                waiting.set_result(reply)


def _checked(command: C) -> C:
    """Return a command that its owner can read. Raises InvalidCommandError for one out of its fields' bounds."""
    problem = decode_command(encode(command))
    if isinstance(problem, str):
        raise InvalidCommandError(problem)
    return command
