"""The product's commands with shorter limits, so that a test can wait for them.

Called by: tests/support/product/behind_http.py and razorpay.py. METERING_TEST_WRITE_SECONDS is the limit of a write to
ClickHouse, METERING_TEST_ANSWER_SECONDS that of a command's answer; the product's own are 60 and 30.
"""

from __future__ import annotations

import os

from pipeline.cli import asking
from pipeline.cli.main import main
from pipeline.clickhouse.pool import Lane

if __name__ == "__main__":
    Lane.WRITE.seconds = int(os.environ.get("METERING_TEST_WRITE_SECONDS", Lane.WRITE.seconds))
    asking.ANSWER_LIMIT_S = float(os.environ.get("METERING_TEST_ANSWER_SECONDS", asking.ANSWER_LIMIT_S))
    main()
