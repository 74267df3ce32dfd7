"""The jars of Apache Kafka: which, fetched once, checked before every use.

Owns: the pinned list `kafka-jars.txt` and the directory it is fetched into, beside the virtual environment.
Called by: `make setup` (`python -m pipeline.local.jars`) and `local/broker.py`.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.local.errors import LocalError

LIST = Path(__file__).with_name("kafka-jars.txt")

_FETCHED_AT_ONCE = 8
_ATTEMPTS = 3
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Jar:
    """One pinned jar: its Maven coordinates and the SHA-256 its bytes must have."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        """The file's name in the directory."""
        return f"{self.artifact}-{self.version}.jar"


def pinned(listing: Path = LIST) -> tuple[Jar, ...]:
    """Read the pinned list. Raises LocalError where a line cannot be understood."""
    jars = []
    for line in listing.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        try:
            coordinates, sha256 = line.split(" ")
            group, artifact, version = coordinates.split(":")
        except ValueError as error:
            raise LocalError(f"{listing}: not 'group:artifact:version sha256': {line!r}") from error
        jars.append(Jar(group, artifact, version, sha256))
    return tuple(jars)


def directory() -> Path:
    """Return where the jars are kept: in the virtual environment that runs this."""
    return Path(sys.prefix) / "share" / "kafka"


def missing(jars: Sequence[Jar], at: Path) -> list[Jar]:
    """Return the jars that are absent or whose bytes differ from the pinned ones."""
    return [jar for jar in jars if not _is_right(jar, at / jar.filename)]


def ensure(at: Path | None = None, listing: Path = LIST) -> list[Path]:
    """Return the class path of a pinned list, fetching first what is missing. Raises LocalError where that fails.

    Every file is checked by its hash each time (some 50 ms), so a fetch that broke off is never used.
    """
    where = at or directory()
    jars = pinned(listing)
    if missing(jars, where):
        where.mkdir(parents=True, exist_ok=True)
        with _alone(where):
            wanted = missing(jars, where)
            if wanted:
                sys.stderr.write(f"Fetching jars of Apache Kafka: {len(wanted)} files into {where}\n")
                _fetch(wanted, where)
    return [where / jar.filename for jar in jars]


def _is_right(jar: Jar, path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except OSError:
        return False


@contextmanager
def _alone(where: Path) -> Iterator[None]:
    """Hold the directory's lock, so that two processes do not fetch the same files."""
    with (where / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(jars: Sequence[Jar], where: Path) -> None:
    with (
        tempfile.TemporaryDirectory(dir=where, prefix=".fetch-") as scratch,
        ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool,
    ):
        for _ in pool.map(lambda jar: _fetch_one(jar, where, Path(scratch)), jars):
            pass


def _fetch_one(jar: Jar, where: Path, scratch: Path) -> None:
    """Fetch a jar through jgo and put it in place whole, or raise LocalError."""
    # jgo brings half a second of imports, needed only where something is fetched.
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    # A mirror of the user's own, where jgo's settings name one, comes first.
    repositories = dict(GlobalSettings.load().repositories)
    repositories.setdefault("central", MAVEN_CENTRAL_URL)
    reason = ""
    for attempt in range(_ATTEMPTS):
        # A cache of its own for each attempt: jgo would take a file that broke off for a whole one.
        context = MavenContext(
            repo_cache=scratch / f"{jar.filename}.{attempt}",
            remote_repos=repositories,
            timeout=_TIMEOUT_SECONDS,
        )
        artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
        try:
            fetched = artifact.resolve()
        except (OSError, RuntimeError) as error:
            reason = str(error)
            continue
        if _is_right(jar, fetched):
            shutil.move(fetched, where / jar.filename)
            return
        reason = "its bytes are not the pinned ones"
    raise LocalError(f"cannot fetch {jar.group}:{jar.artifact}:{jar.version}: {reason}")


def main() -> int:
    """Fetch what is missing; 1 with a message on stderr where that fails."""
    try:
        ensure()
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
