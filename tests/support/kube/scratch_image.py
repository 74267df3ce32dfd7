"""An image of one program that needs nothing else, as a tar that containerd imports.

Called by: tests/support/kube/__main__.py, for the programs that it built itself.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path


def write(to: Path, name: str, program: Path, words: Sequence[str]) -> None:
    """Write an image of `program` alone, which runs it with `words` where a pod says nothing else."""
    layer = _tar({program.name: program.read_bytes()})
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "Cmd": list(words), "User": "65534:65534"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created_by": "make kube"}],
    }
    described = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    parts = {
        "layer.tar": layer,
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps(described).encode(),
    }
    to.write_bytes(_tar(parts))


def _tar(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o755
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()
