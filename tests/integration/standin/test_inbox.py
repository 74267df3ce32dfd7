"""The demo's inbox, run as the demo runs it: a mail is kept as a file and shown as text."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import msgspec
import pytest

from pipeline.mail.outbox import Delivery
from pipeline.mail.render import render
from pipeline.mail.smtp import MailServer, send
from tests.support.mails import MAIL, SENDER


@pytest.fixture
def running(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Both addresses of a running inbox."""
    command = [
        sys.executable,
        "-m",
        "pipeline.standin.inbox",
        "--port=0",
        "--http-port=0",
        f"--dir={tmp_path}",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        process.wait(10)


async def test_a_mail_is_kept_and_shown_as_text(running: dict[str, str], tmp_path: Path) -> None:
    assert "No mail yet" in httpx2.get(running["page"], timeout=20).text
    mail = msgspec.structs.replace(MAIL, org_name="<script>alert(1)</script>")
    server = MailServer.parse(running["smtp_url"])
    for _ in range(2):
        assert (await send(server, render(mail, SENDER), SENDER.address, mail.to))[0] is Delivery.SENT
    assert sorted(file.name for file in tmp_path.iterdir()) == ["000001.eml", "000002.eml"]

    page = httpx2.get(running["page"], timeout=20).text
    assert page.count("Low balance: Rs 1,23,456.78 left") == 2
    assert "₹2,00,000.00" in page and "<script" not in page
    raw = httpx2.get(f"{running['page']}/000001.eml", timeout=20)
    assert raw.headers["content-type"].startswith("text/plain") and "asha@acme.example" in raw.text
    assert httpx2.get(f"{running['page']}/..%2f..%2fetc%2fpasswd", timeout=20).status_code == 404
    assert httpx2.get(f"{running['page']}/000003.eml", timeout=20).status_code == 404
