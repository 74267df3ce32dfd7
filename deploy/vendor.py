"""Fetch the files of others that the pages ship, and put down none whose hash is not the one written down.

Run as `python deploy/vendor.py`, after a new release and its hash are in `pipeline/api/static/vendored.txt`. It needs
npm. A last line that names a source map is left off: the map is not here, and a browser would ask for it.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

STATIC = Path(__file__).parents[1] / "pipeline" / "api" / "static"
_SOURCE_MAP = re.compile(rb"(?://|/\*)# sourceMappingURL=.*\s*\Z")


def main() -> int:
    """Put every file in its place; 1 where one is not what it is said to be."""
    for line in (STATIC / "vendored.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        name, sha256, source = line.split()
        release, _, member = source.removeprefix("npm:").partition("/")
        content = _SOURCE_MAP.sub(b"", _of_npm(release, member))
        if hashlib.sha256(content).hexdigest() != sha256:
            sys.stderr.write(f"{name}: {source} has another hash; nothing of it is put down\n")
            return 1
        (STATIC / name).write_bytes(content)
    return 0


def _of_npm(release: str, member: str) -> bytes:
    with tempfile.TemporaryDirectory() as home:
        packed = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", home, release]
        subprocess.run(packed, check=True, stdout=subprocess.DEVNULL)
        [archive] = Path(home).iterdir()
        with tarfile.open(archive) as files:
            file = files.extractfile(f"package/{member}")
            assert file is not None
            return file.read()


if __name__ == "__main__":
    sys.exit(main())
