"""A mail server for the demo: it takes every mail, keeps it as a file, and shows it on a page.

Owns: the files of its directory. Nothing leaves the machine.
Called by: the demo, or by hand: `python -m pipeline.standin.inbox --port 2525 --http-port 8025 --dir mails`.

Where it takes a free port, its first line on stdout is JSON with both addresses, once they can be reached; who names the
ports knows them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import uvicorn
from aiosmtpd.smtp import SMTP
from fastapi import FastAPI, Response
from jinja2 import Environment

HOST = "127.0.0.1"
SHOWN_MAX = 200
_SUFFIX = ".eml"

_PAGE = Environment(autoescape=True).from_string("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="5">
<title>Inbox of the demo</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 44rem; margin: 0 auto; padding: 1.5rem 1rem; }
article { border: 1px solid #8886; border-radius: .75rem; padding: 1rem; margin: 1rem 0; }
h2 { font-size: 1.1rem; margin: 0; }
p.about { margin: .25rem 0 0; opacity: .75; font-size: .9rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; margin: .75rem 0 0; }
</style>
</head>
<body>
<h1>Inbox of the demo</h1>
<p>Every mail the demo sends ends here; none leaves this machine. Newest first.</p>
{% for name, mail in mails %}
<article>
<h2>{{ mail["Subject"] }}</h2>
<p class="about">To {{ mail["To"] }}, {{ mail["Date"] }}, <a href="/{{ name }}">the file</a></p>
<pre>{{ text(mail) }}</pre>
</article>
{% else %}
<p><strong>No mail yet.</strong> Set a low-balance threshold on the billing page, then let the balance fall below it.</p>
{% endfor %}
</body>
</html>
""")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"


@dataclass
class Inbox:
    """Keeps what comes in as numbered files."""

    directory: Path

    def __post_init__(self) -> None:
        """Go on after the files that are there."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._next = 1 + max((int(file.stem) for file in self._files()), default=0)

    def _files(self) -> list[Path]:
        return [file for file in self.directory.glob(f"*{_SUFFIX}") if file.stem.isdigit()]

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - the library's name
        """Keep a message; the answer to the sender."""
        name, self._next = f"{self._next:06d}{_SUFFIX}", self._next + 1
        unfinished = self.directory / f"{name}.part"
        unfinished.write_bytes(envelope.content)
        unfinished.rename(self.directory / name)
        return "250 kept"

    def newest(self) -> list[tuple[str, EmailMessage]]:
        """Return the newest mails by file name, newest first."""
        files = sorted(self._files(), key=lambda file: int(file.stem), reverse=True)[:SHOWN_MAX]
        return [(file.name, _read(file)) for file in files]

    def raw(self, name: str) -> bytes | None:
        """Return a mail's bytes, None where there is no such file."""
        known = {file.name: file for file in self._files()}
        return known[name].read_bytes() if name in known else None


def _read(file: Path) -> EmailMessage:
    return message_from_bytes(file.read_bytes(), policy=policy.default)


def _text(mail: EmailMessage) -> str:
    body = mail.get_body(("plain", "html"))
    return str(body.get_content()).strip() if body is not None else ""


def page_of(inbox: Inbox) -> FastAPI:
    """Return the app that shows the mails."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/")
    def page() -> Response:
        html = _PAGE.render(mails=inbox.newest(), text=_text)
        return Response(html, media_type="text/html", headers={"Content-Security-Policy": _POLICY})

    @app.get("/{name}")
    def file(name: str) -> Response:
        content = inbox.raw(name)
        if content is None:
            return Response("there is no such mail\n", 404, media_type="text/plain")
        return Response(
            content, media_type="text/plain; charset=utf-8", headers={"X-Content-Type-Options": "nosniff"}
        )

    return app


async def serve(inbox: Inbox, port: int, http_port: int, announce: Callable[[dict[str, str]], None]) -> None:
    """Take mail and show it until cancelled or told to stop by a signal.

    Port 0 takes a free one; `announce` gets both addresses. Raises OSError where a port is taken.
    """
    loop = asyncio.get_running_loop()
    mail = await loop.create_server(
        lambda: SMTP(inbox, hostname="inbox.localhost", enable_SMTPUTF8=True), HOST, port
    )
    config = uvicorn.Config(page_of(inbox), log_config=None, access_log=False, timeout_graceful_shutdown=1)
    web = socket.create_server((HOST, http_port))
    announce(
        {
            "smtp_url": f"smtp://{HOST}:{mail.sockets[0].getsockname()[1]}",
            "page": f"http://{HOST}:{web.getsockname()[1]}",
        }
    )
    try:
        await uvicorn.Server(config).serve(sockets=[web])
    finally:
        mail.close()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.standin.inbox", description=__doc__)
    parser.add_argument("--port", type=int, default=2525, help="where mail comes in; 0 takes a free port")
    parser.add_argument(
        "--http-port", type=int, default=8025, help="where mails are shown; 0 takes a free port"
    )
    parser.add_argument("--dir", type=Path, default=Path("mails"), help="where mails are kept, as .eml files")
    given = parser.parse_args()

    def announce(addresses: dict[str, str]) -> None:
        if not (given.port and given.http_port):
            print(json.dumps(addresses), flush=True)

    asyncio.run(serve(Inbox(given.dir), given.port, given.http_port, announce))


if __name__ == "__main__":
    main()
