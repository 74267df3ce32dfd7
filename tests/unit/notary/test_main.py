"""The notary as a process of its own says what it lacks."""

from __future__ import annotations

import pytest

from pipeline.notary.main import main
from pipeline.settings import MissingSettingError, NotarySettings


def test_without_a_key_it_says_what_to_set() -> None:
    with pytest.raises(MissingSettingError, match="METERING_NOTARY_KEY is not set"):
        main(NotarySettings(kafka_url="kafka://nowhere:1"))
