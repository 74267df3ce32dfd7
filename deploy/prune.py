"""Name what the image can do without: all that is installed and the package does not need to run.

Owns: the difference between the lock, which has the tools of development too, and the image.
Called by: `deploy/Dockerfile`, with the Python of the environment it prunes; prints one name a line.

    python prune.py bharatrouter-metering --without chdb --without jgo
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

Requires = Callable[[str], Iterable[str] | None]


def needed(package: str, without: Iterable[str] = (), requirements_of: Requires = requires) -> set[str]:
    """Return the canonical names of a package and all it needs here, what only `without` needs left out.

    A requirement that is not installed is left out too: its marker asked for it and pip did not.
    """
    left_out = {canonicalize_name(name) for name in without}
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    open_ends = [(str(canonicalize_name(package)), "")]
    while open_ends:
        name, extra = open_ends.pop()
        if (name, extra) in seen or name in left_out:
            continue
        seen.add((name, extra))
        try:
            lines = requirements_of(name) or ()
        except PackageNotFoundError:
            continue
        found.add(name)
        for requirement in map(Requirement, lines):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                target = str(canonicalize_name(requirement.name))
                open_ends.extend((target, asked) for asked in ("", *requirement.extras))
    return found


def main() -> None:
    """Print what is installed and not needed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package")
    parser.add_argument("--without", action="append", default=[], metavar="NAME")
    given = parser.parse_args()
    installed = {str(canonicalize_name(one.metadata["Name"])) for one in distributions()}
    print("\n".join(sorted(installed - needed(given.package, given.without))))


if __name__ == "__main__":
    main()
