"""`metering whatif`: what is wrong with a question is told before anything is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.context import CommandError
from pipeline.cli.main import program

GOOD = Path("deploy", "catalog.yaml")


@pytest.mark.parametrize(
    ("days", "told"),
    [
        (("--from", "2026-02-30"), "2026-02-30"),
        (("--from", "2026-6-1x"), "2026-6-1x"),
        (("--to", "yesterday"), "yesterday"),
        (("--from", "2026-06-02", "--to", "2026-06-01"), "lies after"),
    ],
)
def test_days_that_are_none_are_wrong_usage(days: tuple[str, ...], told: str) -> None:
    done = CliRunner().invoke(program(), ["whatif", "--catalog", str(GOOD), *days])
    assert done.exit_code == 2
    assert told in done.output


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rates: [", "catalog.yaml"),
        ("prices: []", "rates"),
        (
            "rates:\n  - {model: m, provider: p, effective_from: soon, input_inr_per_mtok: 1, output_inr_per_mtok: 1}",
            "effective_from",
        ),
        (
            "rates:\n  - {model: m, provider: p, effective_from: '2026-01-01T00:00:00Z', input_inr_per_mtok: '-1', output_inr_per_mtok: 1}",
            "input_inr_per_mtok",
        ),
        ("\xff", "catalog.yaml"),
    ],
)
def test_a_catalog_with_an_error_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "catalog.yaml"
    file.write_text(text, encoding="latin-1")
    done = CliRunner().invoke(program(), ["whatif", "--catalog", str(file)])
    assert isinstance(done.exception, CommandError)
    assert str(file) in str(done.exception) and told in str(done.exception)


def test_a_catalog_that_is_not_there_is_told() -> None:
    done = CliRunner().invoke(program(), ["whatif", "--catalog", "no-such-file.yaml"])
    assert isinstance(done.exception, CommandError)
    assert "no-such-file.yaml" in str(done.exception)
