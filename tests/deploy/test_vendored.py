"""What others made and we ship is what they released: by hash, with its source."""

from __future__ import annotations

import hashlib
import re

from tests.support.deploy import ROOT

STATIC = ROOT / "pipeline" / "api" / "static"
LINES = [
    line.split()
    for line in (STATIC / "vendored.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
OURS = {"docs.js", "vendored.txt"}


def test_every_file_of_others_is_the_one_that_is_written_down() -> None:
    found = {at.name for at in STATIC.iterdir() if at.is_file()} - OURS
    assert found == {name for name, _, _ in LINES}
    for name, sha256, _ in LINES:
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == sha256, name


def test_every_file_of_others_names_a_release_as_its_source() -> None:
    for _, _, source in LINES:
        assert re.fullmatch(r"npm:[a-z.-]+@\d+\.\d+\.\d+/\S+", source)
