"""The product's commands with a shorter limit for a write to ClickHouse, so that a test can wait for it.

Called by: tests/support/behind_http.py. METERING_TEST_WRITE_SECONDS is the limit; 60 is the product's own.
"""

from __future__ import annotations

import os

from pipeline.cli.main import main
from pipeline.clickhouse.pool import Lane

if __name__ == "__main__":
    Lane.WRITE.seconds = int(os.environ["METERING_TEST_WRITE_SECONDS"])
    main()
