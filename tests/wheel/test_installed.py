"""The wheel, installed in an empty environment: the demo runs from it, every page is there, and the books agree."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import httpx2
import pytest

from pipeline.api.pages import navigation
from tests.support.wheel import built, empty_environment, interpreter, locked, promised_versions

READY_LIMIT_S = 300.0
STOP_LIMIT_S = 60.0


@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", promised_versions())
def test_the_demo_runs_from_the_wheel_alone(tmp_path: Path, version: str) -> None:
    python = interpreter(version)
    wheel = built(tmp_path)
    tested = tmp_path / "tested.txt"
    tested.write_text("\n".join(locked()))
    began_s = time.monotonic()
    home = empty_environment(tmp_path, python, f"{wheel}[embedded]", "--constraint", str(tested))
    print(f"Python {version}: installed in {time.monotonic() - began_s:.0f} s")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "METERING"))}
    log = tmp_path / "demo.log"

    def metering(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(home / "bin/metering"), *arguments, "--data-dir", "data"]
        return subprocess.run(command, cwd=elsewhere, env=clean, capture_output=True, text=True, check=False)

    with log.open("wb") as words:
        command = [
            str(home / "bin/metering"),
            "demo",
            "--data-dir",
            "data",
            "--port",
            "0",
            "--kafka-port",
            "0",
        ]
        demo = subprocess.Popen(command, cwd=elsewhere, env=clean, stdout=words, stderr=words)
    try:
        until_s = time.monotonic() + READY_LIMIT_S
        while "Live traffic" not in (said := log.read_text(errors="replace")):
            assert demo.poll() is None and time.monotonic() < until_s, said
            time.sleep(0.2)
        print(f"the demo ran {time.monotonic() - began_s:.0f} s after the beginning")
        [address] = re.findall(r"\AThe overview, signed in: (\S+)\n", said)
        with httpx2.Client(trust_env=False, follow_redirects=True, timeout=20) as browser:
            overview = browser.get(address)
            assert overview.status_code == 200 and overview.url.path == "/overview"
            base = str(overview.url).removesuffix("/overview")
            for path in ("/", "/docs", *(place.address for place in navigation.places(is_member=True))):
                assert browser.get(f"{base}{path}").status_code == 200, path
        verified = metering("verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
    finally:
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(STOP_LIMIT_S) == 0
