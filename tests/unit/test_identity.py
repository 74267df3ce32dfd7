"""Whose records are: written beside them, read back, and compared by name and id."""

from __future__ import annotations

import pytest

from pipeline.identity import DeploymentIdentity, MixedHistoriesError, check_name, of_headers, parse

OURS = DeploymentIdentity("metering", "a" * 32)


def test_it_is_written_as_text_and_as_a_header() -> None:
    assert parse(str(OURS)) == OURS
    assert parse("metering/") == DeploymentIdentity("metering")
    assert of_headers([("kind", b"ledger"), OURS.header()]) == OURS
    assert of_headers([("kind", b"ledger")]) is None
    assert of_headers(None) is None


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (DeploymentIdentity("metering", "a" * 32), True),
        (DeploymentIdentity("metering"), True),
        (DeploymentIdentity("metering", "b" * 32), False),
        (DeploymentIdentity("metring", "a" * 32), False),
    ],
)
def test_two_are_of_one_deployment_by_name_and_id_as_far_as_that_is_known(
    other: DeploymentIdentity, same: bool
) -> None:
    assert OURS.is_of(other) is other.is_of(OURS) is same


def test_another_name_is_refused_with_both_names() -> None:
    check_name("metering", "here", OURS)
    check_name("metering", "here", None)
    with pytest.raises(
        MixedHistoriesError,
        match=r"here is of .* metering/a{32}, .* 'metring' .* METERING_DEPLOYMENT=metering ",
    ):
        check_name("metring", "here", OURS)
