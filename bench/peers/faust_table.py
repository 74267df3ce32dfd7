"""The plain way with Faust: an agent, a table with a changelog, one output record an event.

The same work per event as the debit path: decode, rate, add to the org's sum, write a row. No transaction,
no duplicate check: Faust's own guarantees. Run as `python -m bench.peers.faust_table` on a topic
`peer.requests` of single events. Says FIRST once it has the first of them.
"""

from __future__ import annotations

import os
import tempfile

import faust
import msgspec

from bench.events import rates
from pipeline.catalog.rates import RateTable
from pipeline.catalog.rating import cost_nano
from pipeline.events import RequestEvent, Timestamps

table_of_rates = RateTable()
for rate in rates():
    table_of_rates.add(rate)

app = faust.App(
    "peer",
    broker=os.environ["METERING_KAFKA_URL"],
    store="memory://",
    value_serializer="raw",
    datadir=tempfile.mkdtemp(),
    topic_partitions=1,
    topic_replication_factor=1,
    broker_commit_interval=0.5,
    web_enabled=False,
)
requests = app.topic("peer.requests", value_type=bytes, partitions=1)
journal = app.topic("peer.journal", value_type=bytes, partitions=1)
spent = app.Table("spent", key_type=str, value_type=int, default=int, partitions=1)
decode = msgspec.json.Decoder(RequestEvent).decode
encode = msgspec.json.Encoder().encode
ms_of = Timestamps().ms
FIRST = "the first event is here"


@app.agent(requests)
async def debit(values: faust.StreamT[bytes]) -> None:
    """Charge each event."""
    waiting = True
    async for value in values:
        if waiting:
            waiting = False
            print(FIRST, flush=True)
        event = decode(value)
        usage, data = event.data.usage, event.data
        assert usage is not None
        rate = table_of_rates.in_force(data.model, data.provider or "", ms_of(event.time) or 0)
        assert rate is not None
        cost = cost_nano(rate, usage.prompt_tokens, 0, usage.completion_tokens or 0)
        spent[event.subject] += cost
        await journal.send(key=event.subject, value=encode([event.id, event.subject, data.model, cost]))


if __name__ == "__main__":
    app.finalize()
    faust.Worker(app, loglevel="WARN").execute_from_commandline()
