"""Images of others: the lock names what is used, and the script that renews digests, against a registry of its own."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.deploy import DEPLOY, ROOT, read_yaml

SCRIPT = runpy.run_path(str(DEPLOY / "renew_images.py"))
IMAGES: list[str] = list(SCRIPT["read_lock"]((DEPLOY / "images.lock").read_text()))
[KAFKA] = [image for image in IMAGES if image.startswith("apache/kafka:")]
[GRAFANA] = [image for image in IMAGES if image.startswith("grafana/grafana:")]
TOKEN = "token-of-the-registry"


class Registry(ThreadingHTTPServer):
    """A registry that speaks the OCI distribution protocol, and hands out tokens as Docker Hub does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.manifests: dict[str, bytes] = {}
        self.told: dict[str, str] = {}
        """What it calls a manifest, where that is not its hash."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def publish(self, image: str, content: str) -> str:
        """Move an image's tag to an index of some content, and return its digest."""
        body = json.dumps({"schemaVersion": 2, "manifests": [content]}).encode()
        self.manifests[_path(image)] = body
        return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _path(image: str) -> str:
    """Return where a registry has an image's tag."""
    name, _, tag = image.rpartition(":")
    return f"/v2/{name if '/' in name else f'library/{name}'}/manifests/{tag}"


class _Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/token":
            assert "service=registry.test" in query
            self._answer(200, json.dumps({"token": TOKEN}).encode())
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            scope = f"repository:{path.split('/manifests/')[0].removeprefix('/v2/')}:pull"
            asks = f'Bearer realm="{self.server.url}/token",service="registry.test",scope="{scope}"'
            self._answer(401, b"{}", ("WWW-Authenticate", asks))
        elif (body := self.server.manifests.get(path)) is None:
            self._answer(404, b"{}")
        else:
            assert "application/vnd.oci.image.index.v1+json" in self.headers["Accept"]
            digest = self.server.told.get(path, f"sha256:{hashlib.sha256(body).hexdigest()}")
            self._answer(200, body, ("Docker-Content-Digest", digest))

    def _answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry that has every image of the lock."""
    with Registry() as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        for image in IMAGES:
            serving.publish(image, f"the first of {image}")
        yield serving
        serving.shutdown()
        thread.join()


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    """A copy of the files that name images."""
    copy = tmp_path / "deploy"
    copy.mkdir()
    for name in ("images.lock", "Dockerfile"):
        shutil.copy(DEPLOY / name, copy)
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    return copy


def _run(deploy: Path, *arguments: str) -> int:
    code: int = SCRIPT["main"](list(arguments), deploy)
    return code


def _files(deploy: Path) -> dict[str, str]:
    return {at.name: at.read_text() for at in (*deploy.iterdir(), deploy.parent / "docker-compose.yml")}


def test_the_lock_has_every_image_that_is_used_and_no_other_and_all_say_the_same() -> None:
    services = read_yaml(ROOT / "docker-compose.yml")["services"].values()
    used = {each["image"].partition("@")[0] for each in services if not each["image"].startswith("$")}
    [base] = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert used | {base.partition("@")[0]} == set(IMAGES)
    assert [each for each in SCRIPT["problems"](DEPLOY) if "has no digest" not in each] == []


def test_digests_are_looked_up_and_written_wherever_the_images_are_named(
    registry: Registry, deploy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kafka = registry.publish(KAFKA, "second")
    assert _run(deploy, "--registry", registry.url) == 0
    told = capsys.readouterr().out
    assert f"{KAFKA}: " in told
    assert f" -> {kafka}\n" in told
    services = read_yaml(deploy.parent / "docker-compose.yml")["services"]
    assert services["kafka"]["image"] == f"{KAFKA}@{kafka}"
    assert all("@sha256:" in each["image"] for each in services.values() if not each["image"].startswith("$"))
    assert re.search(
        r"^ARG PYTHON_IMAGE=python:3\S+-slim-\w+@sha256:[0-9a-f]{64}$",
        _files(deploy)["Dockerfile"],
        re.MULTILINE,
    )
    assert _run(deploy, "--check") == 0


def test_run_again_it_changes_what_moved_and_nothing_else(
    registry: Registry, deploy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(deploy, "--registry", registry.url) == 0
    before = _files(deploy)
    capsys.readouterr()
    assert _run(deploy, "--registry", registry.url) == 0
    assert (capsys.readouterr().out, _files(deploy)) == ("", before)
    old = SCRIPT["read_lock"](before["images.lock"])[GRAFANA]
    new = registry.publish(GRAFANA, "mended")
    assert _run(deploy, "--registry", registry.url) == 0
    assert capsys.readouterr().out == f"{GRAFANA}: {old} -> {new}\n"
    assert _files(deploy) == {name: text.replace(old, new) for name, text in before.items()}


def test_bytes_that_are_not_what_the_registry_calls_them_are_not_believed(
    registry: Registry, deploy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _files(deploy)
    registry.told[_path(KAFKA)] = f"sha256:{'0' * 64}"
    assert _run(deploy, "--registry", registry.url) == 1
    assert f"{KAFKA}: the registry calls it sha256:000" in capsys.readouterr().err
    assert _files(deploy) == before


def test_a_tag_that_is_not_there_and_a_registry_that_is_not_are_told_and_nothing_is_written(
    registry: Registry, deploy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _files(deploy)
    del registry.manifests[_path(GRAFANA)]
    assert _run(deploy, "--registry", registry.url) == 1
    assert GRAFANA in (said := capsys.readouterr().err)
    assert said.endswith("answered 404\n")
    assert _run(deploy, "--registry", "http://127.0.0.1:1") == 1
    assert "python:3.11" in capsys.readouterr().err
    assert _files(deploy) == before


def test_the_check_names_what_has_no_digest_and_what_differs(
    registry: Registry, deploy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(deploy, "--registry", registry.url) == 0
    compose, lock = deploy.parent / "docker-compose.yml", deploy / "images.lock"
    text = compose.read_text()
    compose.write_text(re.sub(r"(apache/kafka:[\d.]+)@\S+", r"\1", text))
    lock.write_text(re.sub(r"(grafana/grafana:\S+) \S+", r"\1 -", lock.read_text()))
    capsys.readouterr()
    assert _run(deploy, "--check") == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("grafana/grafana:")
    assert said[1:] == ["docker-compose.yml names an image otherwise than images.lock"]


@pytest.mark.parametrize("line", ["kafka", "apache/kafka:4.1.0", "apache/kafka:4.1.0 sha256:12", "a:b c d"])
def test_a_line_that_says_something_else_is_an_error(deploy: Path, line: str) -> None:
    (deploy / "images.lock").write_text(f"{line}\n")
    assert _run(deploy, "--check") == 1
