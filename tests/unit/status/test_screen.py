"""The screen of `metering status`, as an operator sees it, and the same as JSON."""

from __future__ import annotations

from dataclasses import replace

from pipeline.status.found import LetterCount, OrderCount, RoleFound, Unknown
from pipeline.status.judged import is_well, judged
from pipeline.status.screen import COLUMNS, as_json, as_text
from tests.support.deploy import ROOT
from tests.support.status import KAFKA, WELL

SCREEN_WELL = """\
metering at 2026-06-12 23:59:59 IST: all is well

kafka         ok       3 brokers, 4 partitions
clickhouse    ok       answers
worker        ok       2 run, every partition has an owner
sink          ok       1 runs, every partition has an owner
mailer        ok       1 runs, every partition has an owner
webhooks      ok       1 runs, every partition has an owner
notary        ok       1 runs, signed through 2026-06-11
server        ok       ready at http://127.0.0.1:8002
books         ok       agreed at 2026-06-12 22:59:59 IST, by `metering verify`

worker lag    0 offsets
sink lag      815 offsets, the oldest waits for 0.4 s
events        1,23,456 posted in the last minute: 2057.6 a second
debited       ₹12,34,56,78,901.23456789 today, for requests of 2026-06-12 IST
dead letters  3 in 24 hours: 1 malformed, 2 unpriced
payments      4 open: orders of the last 7 days, not paid
"""

AWAY = "no broker answers: kafka-1:9092 (Connection refused), kafka-2:9092 (Connection refused); METERING_KAFKA_URL names them"
SCREEN_KAFKA_AWAY = """\
metering at 2026-06-12 23:59:59 IST: 3 parts are not well

kafka         WRONG    no broker answers: kafka-1:9092 (Connection refused),
                       kafka-2:9092 (Connection refused); METERING_KAFKA_URL
                       names them
clickhouse    ok       answers
worker        WRONG    http://127.0.0.1:8001: does not answer (ConnectError)
sink          UNKNOWN  Kafka could not be asked
mailer        UNKNOWN  Kafka could not be asked
webhooks      UNKNOWN  Kafka could not be asked
notary        UNKNOWN  Kafka could not be asked
server        WRONG    kafka: has not been read for 31 s; worker: no worker
                       answers
books         UNKNOWN  Kafka could not be asked

debited       ₹0.00 today, for requests of 2026-06-12 IST
lag           not known: Kafka could not be asked
events        not known: Kafka could not be asked
dead letters  not known: Kafka could not be asked
open payments not known: Kafka could not be asked
verify        not known: Kafka could not be asked
"""


def test_the_screen_of_a_deployment_that_is_well() -> None:
    assert as_text(WELL) == SCREEN_WELL
    assert is_well(WELL, judged(WELL))
    assert SCREEN_WELL in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_the_screen_while_kafka_is_away_says_what_is_known_and_why_the_rest_is_not() -> None:
    found = replace(
        WELL,
        kafka=Unknown(AWAY),
        debited_nano=0,
        roles=[
            RoleFound("worker", "http://127.0.0.1:8001", Unknown("does not answer (ConnectError)")),
            RoleFound(
                "server",
                "http://127.0.0.1:8002",
                {"kafka": "has not been read for 31 s", "clickhouse": "ok", "worker": "no worker answers"},
            ),
        ],
    )
    assert as_text(found) == SCREEN_KAFKA_AWAY
    assert max(map(len, as_text(found).splitlines())) <= COLUMNS
    assert as_json(found)["lag"] == {"worker": None, "sink": None}


def test_figures_are_exact_in_json() -> None:
    assert as_json(WELL) == {
        "at": "2026-06-12T23:59:59.999+05:30",
        "deployment": "metering",
        "is_well": True,
        "parts": {
            part.name: {"condition": part.condition.value, "detail": part.detail} for part in judged(WELL)
        },
        "lag": {
            "worker": {"offsets": 0, "oldest_ms": 0, "by_partition": {"0": 0, "1": 0, "2": 0, "3": 0}},
            "sink": {"offsets": 815, "oldest_ms": 412, "by_partition": {"0": 0, "1": 812, "2": 0, "3": 3}},
        },
        "events": {"posted_last_minute": 123_456, "a_second": 2057.6},
        "debited_today": {"day": "2026-06-12", "nano": 12_345_678_901_234_567_890},
        "dead_letters": {
            "last_24_hours": 3,
            "by_reason": {"unpriced": 2, "malformed": 1},
            "is_whole": True,
        },
        "open_payments": {"unpaid_orders": 4, "is_whole": True},
        "verify": {"ended_at": "2026-06-12T22:59:59.999+05:30", "differences": 0},
        "unknown": {},
    }


def test_what_was_not_counted_to_its_end_and_what_never_was_is_said() -> None:
    kafka = replace(
        KAFKA,
        dead_letters=LetterCount({"invalid": 90_000}, is_whole=False),
        orders=OrderCount(7, is_whole=False),
        verified=None,
    )
    text = as_text(replace(WELL, kafka=kafka))
    assert "at least 90,000 in 24 hours: 90,000 invalid" in text
    assert "at least 7 open" in text
    assert "books         off      never compared: run `metering verify`" in text
    assert "all is well" in text


def test_a_figure_that_is_not_known_is_no_zero_and_nothing_is_called_well() -> None:
    found = replace(WELL, kafka=replace(KAFKA, posted=Unknown("no answer from Kafka within 5 s")))
    assert as_json(found)["events"] is None
    assert as_json(found)["unknown"] == {"events": "no answer from Kafka within 5 s"}
    assert not is_well(found, judged(found))
    assert "events        not known: no answer from Kafka within 5 s" in as_text(found)
    assert "not everything could be asked" in as_text(found)
