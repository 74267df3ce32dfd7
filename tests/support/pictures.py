"""Make pictures of all pages: `make pictures`. It starts the demo, looks at each page, and stops the demo again.

Owns: which pages are looked at, at which widths and in which colours, and how large a picture may be. What belongs
to the navigation comes from there, so a new page has its pictures without a word here.

Beside the pictures it prints when each page showed its first numbers and when it was complete, and how much script
travelled for it.
"""

from __future__ import annotations

import base64
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from pipeline.api.pages import navigation
from tests.support.chromium import FLAGS, WATCH_LOADING, chromium_path, load_times

HOME = Path(__file__).parents[2] / "docs" / "pictures"
SCHEMES = ("light", "dark")
WIDTHS = {"narrow": (390, 844), "wide": (1280, 800)}
BYTES_MAX = 150_000
HEIGHT_MAX = 2_600
"""Of a page that is longer the picture shows the upper part."""
QUALITIES = (0.85, 0.7, 0.5, 0.3)
STRANGERS = ("/", "/login", *(place.address for place in navigation.PUBLIC))
MEMBERS = tuple(place.address for place in navigation.MEMBERS)
READY_LIMIT_S = 300.0
STORY = "429 budget_exceeded"
"""Once the demo has said this, there is something of everything to see."""
STORY_LIMIT_S = 180.0
PAGE_LIMIT_MS = 20_000

_TO_WEBP = """async ([png, quality]) => {
    const image = new Image();
    image.src = "data:image/png;base64," + png;
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), {width: image.width, height: image.height});
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL("image/webp", quality).split(",")[1];
}"""
_SCRIPT_BYTES = """() => performance.getEntriesByType("resource")
    .filter((each) => new URL(each.name).pathname.endsWith(".js"))
    .reduce((sum, each) => sum + each.encodedBodySize, 0)"""


@dataclass
class Demo:
    """A running demo and what it says."""

    popen: subprocess.Popen[bytes]
    log: Path

    def until(self, words: str, limit_s: float) -> str:
        """Return what it has said once it has said something. Raises TimeoutError, RuntimeError where it ended."""
        until_s = time.monotonic() + limit_s
        while words not in (said := self.log.read_text(errors="replace")):
            if self.popen.poll() is not None:
                raise RuntimeError(f"the demo ended:\n{said}")
            if time.monotonic() > until_s:
                raise TimeoutError(f"the demo did not say {words!r}:\n{said}")
            time.sleep(0.2)
        return said


@contextmanager
def running_demo() -> Iterator[Demo]:
    """Run a demo on a directory of its own."""
    with tempfile.TemporaryDirectory() as home:
        log = Path(home) / "demo.log"
        command = [sys.executable, "-m", "pipeline", "demo", "--data-dir", f"{home}/data"]
        with log.open("wb") as out:
            popen = subprocess.Popen([*command, "--port", "0", "--kafka-port", "0"], stdout=out, stderr=out)
        try:
            yield Demo(popen, log)
        finally:
            popen.send_signal(signal.SIGTERM)
            popen.wait(60)


def as_webp(converter: Page, png: bytes) -> bytes:
    """Return a picture as WebP in the best quality that is small enough, or in the lowest; any page converts it."""
    for quality in QUALITIES:
        text = converter.evaluate(_TO_WEBP, [base64.b64encode(png).decode(), quality])
        webp = base64.b64decode(text)
        if len(webp) < BYTES_MAX:
            break
    return webp


class Camera:
    """A browser that looks at the demo and keeps what it sees."""

    def __init__(self, browser: Browser, sign_in: str) -> None:
        """Look with a browser; `sign_in` is the address that signs it in."""
        self.browser, self.sign_in = browser, sign_in
        self.converter = browser.new_page()
        self.wrong: list[str] = []
        self.url = ""

    def everything(self) -> None:
        """Make all pictures."""
        for scheme in SCHEMES:
            for name, (width, height) in WIDTHS.items():
                how: dict[str, Any] = {
                    "viewport": {"width": width, "height": height},
                    "color_scheme": scheme,
                    "locale": "en-IN",
                }
                with self.browser.new_context(**how) as context:
                    self._signed_in(context, f"{name}-{scheme}")
                with self.browser.new_context(**how) as context:
                    for address in STRANGERS:
                        self.look(context, address, f"{name}-{scheme}")

    def _signed_in(self, context: BrowserContext, suffix: str) -> None:
        page = context.new_page()
        page.goto(self.sign_in)
        self.url = re.sub(r"/overview.*", "", page.url)
        for address in MEMBERS:
            self.look(context, address, suffix)
        answer = context.request.get(f"{self.url}/me/activity/events?limit=20&model=krutrim-2")
        newest = next(each["id"] for each in answer.json()["events"] if each["cost_inr"])
        if "/activity" in MEMBERS:
            self.look(context, f"/activity/{newest}", suffix, "request")
        page.keyboard.press("Control+k")
        page.get_by_role("combobox", name="Search").fill("k")
        expect(page.get_by_role("group", name="Models")).to_be_visible()
        expect(page.get_by_role("group", name="Keys")).to_be_visible()
        self.keep(page, f"search-{suffix}", full_page=False)

    def look(self, context: BrowserContext, address: str, suffix: str, name: str = "") -> None:
        """Go to a page, wait until it is complete, keep its picture, and say how long it took."""
        name = name or address.strip("/").replace("/", "-") or "home"
        page = context.new_page()
        page.on(
            "console",
            lambda said: self.wrong.append(f"{address}: {said.text}") if said.type == "error" else None,
        )
        page.on("pageerror", lambda error: self.wrong.append(f"{address}: {error}"))
        page.add_init_script(WATCH_LOADING)
        answer = page.goto(f"{self.url}{address}")
        if answer is None or answer.status != 200:
            self.wrong.append(f"{address}: {answer and answer.status}")
        times = load_times(page, PAGE_LIMIT_MS)
        script_kb = page.evaluate(_SCRIPT_BYTES) / 1000
        size = self.keep(page, f"{name}-{suffix}", full_page=True)
        print(
            f"{name:12} {suffix:13} first numbers {times.first_ms:5.0f} ms  complete {times.complete_ms:5.0f} ms"
            f"  {script_kb:6.1f} kB of script  {size / 1000:6.1f} kB",
            flush=True,
        )
        page.close()

    def keep(self, page: Page, name: str, *, full_page: bool) -> int:
        """Keep what a page shows, as small as it has to be, and return its bytes."""
        clip = None
        if full_page:
            width, height = page.evaluate("[innerWidth, document.documentElement.scrollHeight]")
            clip = {"x": 0, "y": 0, "width": width, "height": min(height, HEIGHT_MAX)}
        png = page.screenshot(full_page=full_page, clip=clip, animations="disabled")  # type: ignore[arg-type]
        webp = as_webp(self.converter, png)
        if len(webp) >= BYTES_MAX:
            self.wrong.append(f"{name}: {len(webp)} bytes")
        (HOME / f"{name}.webp").write_bytes(webp)
        return len(webp)


def main() -> int:
    """Make all pictures anew; 1 where a page was not as it has to be."""
    path = chromium_path()
    if path is None:
        print("No Chromium here: `make browser` installs Debian's.", file=sys.stderr)
        return 1
    HOME.mkdir(exist_ok=True)
    for old in HOME.glob("*.webp"):
        # Those of the board are made by `make board`.
        if not old.name.startswith("board-"):
            old.unlink()
    with running_demo() as demo, sync_playwright() as playwright:
        demo.until("Live traffic", READY_LIMIT_S)
        said = demo.until(STORY, STORY_LIMIT_S)
        sign_in = said.split("\n", 1)[0].rpartition(" ")[2]
        with playwright.chromium.launch(executable_path=path, args=list(FLAGS)) as browser:
            camera = Camera(browser, sign_in)
            camera.everything()
    for each in camera.wrong:
        print(each, file=sys.stderr)
    return 1 if camera.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
