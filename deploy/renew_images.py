"""Look up the digests of the images that others make, and write them where images are named: `python deploy/renew_images.py`.

It needs Python 3.11 and nothing else. images.md says when to run it. The protocol is that of OCI registries,
https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md, with the tokens of Docker Hub,
https://distribution.github.io/distribution/spec/auth/token/. It ends with 1 where a digest cannot be had: nothing is
written then.
"""

import argparse
import hashlib
import json
import re
import sys
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

DEPLOY = Path(__file__).parent
LOCK = "images.lock"
DOCKER_HUB = "https://registry-1.docker.io"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
KINDS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""An index, which names an image for each kind of processor, comes first; a manifest is one image."""
TIMEOUT_S = 30
BYTES_MAX = 4 * 1024 * 1024
"""What a registry has to be able to take as a manifest, so none is larger."""


class RenewalError(Exception):
    """A digest cannot be had, or a file cannot be understood."""


def read_lock(text: str) -> dict[str, str]:
    """Return the digest of each `name:tag`, "" where nobody has looked it up. Raises RenewalError."""
    found = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        image, _, digest = line.partition(" ")
        if not re.fullmatch(r"[a-z0-9./_-]+:[\w.-]+", image) or not (
            digest == "-" or DIGEST.fullmatch(digest)
        ):
            raise RenewalError(f"{LOCK}: not «NAME:TAG DIGEST»: {line!r}")
        found[image] = "" if digest == "-" else digest
    return found


def write_lock(text: str, digests: dict[str, str]) -> str:
    """Return the lock's text with other digests; comments and order stay."""
    lines = []
    for line in text.splitlines():
        image = line.partition(" ")[0]
        lines.append(f"{image} {digests[image] or '-'}" if image in digests else line)
    return "\n".join(lines) + "\n"


def pinned(text: str, digests: dict[str, str]) -> str:
    """Return the text of a file that names images, with each image's digest after its tag."""
    for image, digest in digests.items():
        named = re.compile(rf"(?<![\w./-]){re.escape(image)}(?:@{DIGEST.pattern})?(?![\w.@-])")
        text = named.sub(f"{image}@{digest}" if digest else image, text)
    return text


def look_up(registry: str, image: str) -> str:
    """Return the digest that an image's tag has at a registry. Raises RenewalError."""
    name, _, tag = image.rpartition(":")
    # What Docker Hub makes itself is in `library`.
    path = name if "/" in name else f"library/{name}"
    url = f"{registry.rstrip('/')}/v2/{path}/manifests/{tag}"
    try:
        told, body = _manifest(url)
    except HTTPError as error:
        raise RenewalError(f"{image}: {url} answered {error.code}") from None
    except (URLError, OSError, ValueError, KeyError) as error:
        raise RenewalError(f"{image}: {url}: {error}") from None
    computed = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if told not in (None, computed):
        raise RenewalError(f"{image}: the registry calls it {told}, but its bytes are {computed}")
    return computed


def _manifest(url: str) -> tuple[str | None, bytes]:
    """Return what a registry calls a manifest, and its bytes; with a token where it asks for one."""
    headers = {"Accept": ", ".join(KINDS)}
    try:
        return _fetch(url, headers)
    except HTTPError as error:
        if error.code != HTTPStatus.UNAUTHORIZED:
            raise
        asked = dict(re.findall(r'(\w+)="([^"]*)"', error.headers.get("WWW-Authenticate", "")))
    wanted = {name: asked[name] for name in ("service", "scope") if name in asked}
    _, answer = _fetch(f"{asked['realm']}?{urlencode(wanted)}", {})
    tokens = json.loads(answer)
    token = tokens.get("token") or tokens["access_token"]
    return _fetch(url, {**headers, "Authorization": f"Bearer {token}"})


def _fetch(url: str, headers: dict[str, str]) -> tuple[str | None, bytes]:
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"not an address: {url}")
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT_S) as answer:  # noqa: S310 - looked at above
        body = answer.read(BYTES_MAX + 1)
        if len(body) > BYTES_MAX:
            raise ValueError(f"{url} answers more than {BYTES_MAX} bytes")
        return answer.headers.get("Docker-Content-Digest"), body


def users(deploy: Path) -> list[Path]:
    """Return the files that name images."""
    return [deploy.parent / "docker-compose.yml", deploy / "Dockerfile"]


def problems(deploy: Path) -> list[str]:
    """Return what is not as the lock has it, or has no digest."""
    digests = read_lock((deploy / LOCK).read_text(encoding="utf-8"))
    found = [f"{image} has no digest in {LOCK}" for image, digest in digests.items() if not digest]
    for file in users(deploy):
        text = file.read_text(encoding="utf-8")
        if pinned(text, digests) != text:
            found.append(f"{file.name} names an image otherwise than {LOCK}")
    return found


def renew(deploy: Path, registry: str) -> list[str]:
    """Look all tags up, write the three files, and return what moved. Raises RenewalError with nothing written."""
    lock = deploy / LOCK
    text = lock.read_text(encoding="utf-8")
    before = read_lock(text)
    digests = {image: look_up(registry, image) for image in before}
    for file in users(deploy):
        file.write_text(pinned(file.read_text(encoding="utf-8"), digests), encoding="utf-8")
    lock.write_text(write_lock(text, digests), encoding="utf-8")
    return [
        f"{image}: {before[image] or 'no digest'} -> {digest}"
        for image, digest in digests.items()
        if digest != before[image]
    ]


def main(arguments: list[str], deploy: Path = DEPLOY) -> int:
    """Renew, or check; 1 with the reason on stderr where that fails."""
    parser = argparse.ArgumentParser(description="Look up the digests of the images that others make.")
    parser.add_argument("--registry", default=DOCKER_HUB, help="a mirror of Docker Hub")
    parser.add_argument("--check", action="store_true", help="ask nobody: compare the files")
    options = parser.parse_args(arguments)
    try:
        told = problems(deploy) if options.check else renew(deploy, options.registry)
    except RenewalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    (sys.stderr if options.check else sys.stdout).write("".join(f"{line}\n" for line in told))
    return 1 if options.check and told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
