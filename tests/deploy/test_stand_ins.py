"""What `make stack` makes where no registry serves an image, of parts that exist; and what it says where there is no engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.local import jars
from tests.support.deploy import ROOT
from tests.support.stack import images
from tests.support.stack.engine import NO_ENGINE

STAND_INS = images.stand_ins()
WITHOUT = {"grafana/grafana"}


def test_every_image_of_others_is_stood_in_for_and_no_other() -> None:
    named = set(images.foreign())
    assert images.base() in named
    assert STAND_INS.keys() <= named, "the release in stand-ins.yaml is the one that the deployment names"
    assert {name.rpartition(":")[0] for name in named - STAND_INS.keys()} == WITHOUT


@pytest.mark.parametrize("image", STAND_INS)
def test_a_stand_in_is_made_of_what_is_there_and_says_what_it_does_not_show(image: str) -> None:
    made = STAND_INS[image]
    dockerfile = images.HERE / made.dockerfile
    assert made.differs
    assert set(made.parts.values()) <= images.PARTS.keys()
    there = {at.name for at in dockerfile.parent.iterdir()} | made.parts.keys()
    copied = [
        line.split()[1:-1] for line in dockerfile.read_text(encoding="utf-8").splitlines() if _copies(line)
    ]
    assert {name for names in copied for name in names} <= there


def _copies(line: str) -> bool:
    return line.startswith(("COPY ", "ADD "))


def test_the_brokers_tools_are_of_the_brokers_release() -> None:
    [tools] = jars.pinned(images.HERE / "images" / "kafka" / "kafka-tools.txt")
    assert f"apache/kafka:{tools.version}" in STAND_INS


def test_the_stand_in_for_clickhouse_has_the_engine_that_the_tests_run(tmp_path: Path) -> None:
    to = tmp_path / "versions.txt"
    images.PARTS["engine-versions"](to, {})
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    named = to.read_text(encoding="utf-8").splitlines()
    assert [line.partition("==")[0] for line in named] == ["chdb", "clickhouse-connect", "msgspec"]
    assert all(f"\n{line} " in f"\n{lock}" for line in named)


def test_where_no_engine_can_be_had_one_line_says_how_to_get_one() -> None:
    nowhere = {**{n: v for n, v in os.environ.items() if n != "DOCKER_HOST"}, "PATH": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.stack"],
        cwd=ROOT,
        env=nowhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, f"{NO_ENGINE}\n")
