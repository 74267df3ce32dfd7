"""What a run of `metering verify` came to, as it is kept and shown; a record of another release says nothing."""

from __future__ import annotations

import msgspec

from pipeline import telemetry
from pipeline.formats import CHECKPOINTS
from pipeline.operations.verify_runs import VerifyRun, encode_run, run_of, show


def test_a_run_is_read_as_it_was_kept() -> None:
    kept = run_of(encode_run(1_764_000_000_123, 7, full=True))
    assert kept == VerifyRun(CHECKPOINTS.number, 1_764_000_000_123, 7, full=True)


def test_a_record_that_is_damaged_or_of_another_format_is_no_run() -> None:
    other = VerifyRun(CHECKPOINTS.number + 1, 5, 0, full=False)
    assert run_of(msgspec.msgpack.encode(other)) is None
    assert run_of(b"nonsense") is None
    assert run_of(None) is None


def test_the_last_run_is_shown_and_0_where_there_was_none() -> None:
    def shown() -> tuple[float | None, float | None]:
        return (
            telemetry.AROUND.registry.get_sample_value("metering_verified_timestamp_seconds"),
            telemetry.AROUND.registry.get_sample_value("metering_verify_differences"),
        )

    show(VerifyRun(CHECKPOINTS.number, 1_764_000_000_123, 7, full=False))
    assert shown() == (1_764_000_000.123, 7)
    show(None)
    assert shown() == (0, 0)
