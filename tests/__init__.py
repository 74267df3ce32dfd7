"""The tests. What they share is in tests/support; its assertions explain themselves as a test's own do."""

import pytest

pytest.register_assert_rewrite("tests.support")
