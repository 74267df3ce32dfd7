"""`make stack`: run docker-compose.yml in containers, and the tests that want an engine of containers.

Owns: the order of things, and the words for people.
Next: tests/support/stack/engine.py, tests/support/stack/images.py, tests/stack/test_stack.py.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping

from tests.support.deploy import ROOT
from tests.support.stack import engine, images
from tests.support.stack.commands import CommandError, run, say
from tests.support.stack.engine import NoEngineError

LANE = ("tests/integration/test_topics.py", "tests/integration/test_schema.py")
"""What runs over containers of its own here, by testcontainers; any test of tests/integration may."""


def main() -> int:
    """Run it all; 1 where a test failed or there is no engine."""
    # What was started has to be ended, whoever ends us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with engine.running() as environment:
            say(engine.version(environment))
            compose = engine.compose(environment)
            say(run([*compose, "version"], environment).strip())
            with images.prepared(environment, say, images.foreign()) as made:
                return _tests(environment, compose, made)
    except NoEngineError as error:
        sys.stderr.write(f"{error}\n")
    except CommandError as error:
        sys.stderr.write(f"make stack: {error}\n")
    return 1


def _tests(environment: Mapping[str, str], compose: list[str], made: images.Images) -> int:
    stack = {
        **environment,
        "METERING_TEST_COMPOSE": " ".join(compose),
        "METERING_TEST_ABSENT_IMAGES": " ".join(made.absent),
    }
    # Its helper that removes what a killed run left is an image that a registry would have to serve.
    lane = {**environment, "METERING_TEST_PARTS": "containers", "TESTCONTAINERS_RYUK_DISABLED": "true"}
    codes = [_pytest(stack, "tests/stack"), _pytest(lane, *LANE)]
    say("all as it should be" if codes == [0, 0] else f"pytest ended with {codes}")
    return int(codes != [0, 0])


def _pytest(environment: Mapping[str, str], *arguments: str) -> int:
    command = [sys.executable, "-m", "pytest", "-s", "-n", "0", "--timeout", "1800", *arguments]
    # In a session of its own, so that Ctrl-C reaches it once, from here, and it takes the stack down.
    tests = subprocess.Popen(command, env=dict(environment), cwd=ROOT, start_new_session=True)
    try:
        return tests.wait()
    except BaseException:
        tests.send_signal(signal.SIGINT)
        tests.wait()
        raise


if __name__ == "__main__":
    sys.exit(main())
