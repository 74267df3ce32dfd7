"""A replica, as far as a client can tell: the real engine, rows that it may lack, and the statement to catch up.

Owns: what a replica that is behind or away does. Called by: tests/integration/test_clickhouse_cluster.py and test_shards.py.

The embedded engine has no Keeper, so tables are not replicated here: replicas and shards are databases of one engine, a replica
catches up when a test says what that does, and what is said ON CLUSTER is done to each database of the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from email.message import Message

from tests.support.clickhouse.front import Answer, Front, Given

SYNC = re.compile(rb"SYSTEM SYNC REPLICA (\S+) LIGHTWEIGHT")
NOT_HERE = re.compile(rb" ON CLUSTER '\w+'|(?<=ENGINE = )Replicated(?=\w*MergeTree)")


class Replica(Front):
    """A server whose tables are those of the database `rows` of the engine, whatever database it is asked for."""

    def __init__(self, path: str, rows: str, cluster: Sequence[str] = ()) -> None:
        """Listen on a free port, up to date. `cluster` are the databases that ON CLUSTER reaches, where not this one alone."""
        super().__init__(path)
        self._path = path
        self._rows, self._cluster = rows, cluster or (rows,)
        self.synced: list[str] = []
        self.is_away = False
        self.catches_up: Callable[[], bool] = lambda: True
        """Does what catching up does, and says whether it was done in time."""

    def again(self) -> Replica:
        """Return another replica with the same rows."""
        return Replica(self._path, self._rows, self._cluster)

    def refusal(self, _headers: Message, body: bytes) -> Answer | None:
        """Return the server's words where it is cut off from Keeper, or the answer to the statement to catch up."""
        if self.is_away:
            return 500, 242, b"Code: 242. DB::Exception: Table is in readonly mode (TABLE_IS_READ_ONLY)"
        found = SYNC.match(body)
        if found is None:
            return None
        self.synced.append(found[1].decode())
        if self.catches_up():
            return 200, None, b""
        return 500, 159, b"Code: 159. DB::Exception: SYNC REPLICA: command timed out. (TIMEOUT_EXCEEDED)"

    def run(self, given: Given, body: bytes) -> Answer:
        """Return what the engine answers of this replica's database, or of the last of the cluster's."""
        here = body if self._cluster == (self._rows,) else body.replace(b"`metering`", b"`DATABASE`")
        answers = [
            super(Replica, self).run(
                {**given, "database": database},
                NOT_HERE.sub(b"", here).replace(b"`DATABASE`", f"`{database}`".encode()),
            )
            for database in (self._cluster if b" ON CLUSTER " in body else (self._rows,))
        ]
        return next((answer for answer in answers if answer[1] is not None), answers[-1])
