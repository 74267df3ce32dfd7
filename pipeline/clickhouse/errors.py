"""How a call to the engine can fail: refused for certain, or nobody knows.

Owns: the two errors, and which of the engine's own errors is which.
Called by: `clickhouse/pool.py`; the sink retries the second kind, the API answers 503 to it. Next: `clickhouse/refused.py`.
"""

from __future__ import annotations

from clickhouse_connect.driver.exceptions import Error as DriverError
from clickhouse_connect.driver.exceptions import ProgrammingError

from pipeline.clickhouse.refused import Asked, what_it_may_be, what_to_set

_UNCLEAR_CODES = frozenset(
    {
        3,  # UNEXPECTED_END_OF_FILE
        32,  # ATTEMPT_TO_READ_AFTER_EOF
        159,  # TIMEOUT_EXCEEDED
        164,  # READONLY
        192,  # UNKNOWN_USER
        193,  # WRONG_PASSWORD
        194,  # REQUIRED_PASSWORD
        201,  # QUOTA_EXCEEDED
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        203,  # NO_FREE_CONNECTION
        209,  # SOCKET_TIMEOUT
        210,  # NETWORK_ERROR
        225,  # NO_ZOOKEEPER
        236,  # ABORTED
        241,  # MEMORY_LIMIT_EXCEEDED
        242,  # TABLE_IS_READ_ONLY
        243,  # NOT_ENOUGH_SPACE
        252,  # TOO_MANY_PARTS
        254,  # NO_ACTIVE_REPLICAS
        279,  # ALL_CONNECTION_TRIES_FAILED
        285,  # TOO_FEW_LIVE_REPLICAS
        286,  # UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
        289,  # REPLICA_IS_NOT_IN_QUORUM
        319,  # UNKNOWN_STATUS_OF_INSERT
        341,  # UNFINISHED
        364,  # IP_ADDRESS_NOT_ALLOWED
        394,  # QUERY_WAS_CANCELLED
        425,  # SYSTEM_ERROR
        439,  # CANNOT_SCHEDULE_TASK
        516,  # AUTHENTICATION_FAILED
        574,  # DISTRIBUTED_TOO_MANY_PENDING_BYTES
        745,  # SERVER_OVERLOADED
        999,  # KEEPER_EXCEPTION
    }
)
"""Codes after which the same call may succeed unchanged: an operator or time mends them, not new code."""


_OF_ONE_REPLICA = frozenset(
    {
        225,  # NO_ZOOKEEPER
        242,  # TABLE_IS_READ_ONLY
        289,  # REPLICA_IS_NOT_IN_QUORUM
        999,  # KEEPER_EXCEPTION
    }
)
"""Codes that a replica gives which is cut off from Keeper, while another one may not be."""

UNKNOWN_IDENTIFIER = 47
"""A column that a table lacks, for one."""

NOT_THERE = frozenset(
    {
        60,  # UNKNOWN_TABLE
        81,  # UNKNOWN_DATABASE
    }
)


class EngineError(Exception):
    """The engine refused for certain: nothing was done, and the same call will be refused again.

    `needs_operator` says that the message names what to set or to grant: then it is no fault of the program.
    """

    def __init__(self, message: str, code: int | None = None, *, needs_operator: bool = False) -> None:
        """Keep the engine's message and, where it gave one, its error code."""
        super().__init__(message)
        self.code = code
        self.needs_operator = needs_operator


class EngineUnavailable(Exception):
    """No clear answer: a time-out, a lost connection, an engine that is down or overloaded, or that will not have us.

    What was asked may or may not have been done. An insert is safe to send again with its own token. `needs_operator` is as
    that of EngineError.
    """

    def __init__(self, message: str, *, needs_operator: bool = False) -> None:
        """Keep the message."""
        super().__init__(message)
        self.needs_operator = needs_operator


def engine_failure(error: DriverError, asked: Asked | None = None) -> EngineError | EngineUnavailable:
    """Return what a driver's error means; `asked` is the server, None for an embedded engine.

    Without the engine's own code nothing is certain. The driver's own ProgrammingError is: it refused the call before it
    sent anything.
    """
    to_set = what_to_set(error, asked) if asked is not None else None
    may_be = what_it_may_be(error, asked) if asked is not None else None
    message = to_set or may_be or str(error)
    if isinstance(error, ProgrammingError):
        return EngineError(message, error.code)
    if error.code is None or error.code in _UNCLEAR_CODES:
        return EngineUnavailable(message, needs_operator=to_set is not None)
    return EngineError(message, error.code, needs_operator=to_set is not None)


def is_of_one_replica(error: DriverError) -> bool:
    """Whether an error is of the replica that was asked, so that another one may do better."""
    return error.code in _OF_ONE_REPLICA or (error.code is None and not isinstance(error, ProgrammingError))
