"""`python -m pipeline`: the same as the command `metering`.

Run as `python -m pipeline`, by `local/supervisor.py` for its children. Next: `cli/main.py`.
"""

from __future__ import annotations

from pipeline.cli.main import main

main()
