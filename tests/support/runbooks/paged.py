"""Somebody who was paged: waits for alerts of a real Prometheus, and runs the commands of their runbooks.

Owns: how an alert is waited for, and which of a runbook's commands are run.
Called by: tests/runbooks, tests/support/runbooks/walk.py. Next: tests/support/runbooks/hands.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.support.board.prometheus_server import PrometheusServer
from tests.support.product.processes import Role
from tests.support.runbooks.hands import Hands, Said
from tests.support.runbooks.sections import Command, commands

LIMIT_S = 150.0


@dataclass(kw_only=True)
class Paged:
    """Whoever walks through runbooks: what Prometheus says, and what hands can do."""

    prometheus: PrometheusServer
    hands: Hands
    runbooks: Sequence[Command] = field(default_factory=commands)

    def firing(self) -> set[str]:
        """Return the alerts that fire now."""
        return {
            each.labels["alertname"]
            for each in self.prometheus.instant('ALERTS{alertstate="firing"}', time.time())
        }

    def shown(self, expression: str) -> float:
        """Return what the board shows of an expression now, 0 where it shows nothing."""
        found = self.prometheus.instant(expression, time.time())
        return found[0].points[-1][1] if found and found[0].points else 0.0

    def quiet(self, *alerts: str) -> None:
        """Wait until none of these alerts fires: what the walk before has left is over."""
        self.until(lambda: not self.firing() & set(alerts), f"quiet: {alerts}")

    def fires(self, *alerts: str, limit_s: float = LIMIT_S) -> None:
        """Wait until each of these alerts has fired, in whatever order."""
        begun, left = time.monotonic(), set(alerts)

        def have_fired() -> bool:
            for each in sorted(left & self.firing()):
                print(f"{each} fires after {time.monotonic() - begun:.0f} s")
                left.remove(each)
            return not left

        self.until(have_fired, f"to fire: {left}", limit_s)

    def over(self, *alerts: str, limit_s: float = LIMIT_S) -> None:
        """Wait until none of these alerts fires any more."""
        begun = time.monotonic()
        self.until(lambda: not self.firing() & set(alerts), f"over: {alerts}", limit_s)
        print(f"{', '.join(alerts)}: over after {time.monotonic() - begun:.0f} s")

    def until(self, holds: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
        """Wait until something holds. Raises AssertionError with what fires and what every role said where it does not."""
        deadline = time.monotonic() + limit_s
        while not holds():
            assert time.monotonic() < deadline, f"{what}; {self.firing()} fire\n{self.hands.words()}"
            time.sleep(0.1)

    def look(self, alert: str, of: Role | None = None, **names: str) -> str:
        """Run every command of the runbook's Look; return what they said. Raises AssertionError where there is none."""
        found = [each for each in self.runbooks if (each.alert, each.part) == (alert, "Look")]
        assert found, f"{alert} has nothing to look at"
        return "\n".join(self.hands.run(each.text, of, **names).text for each in found)

    def do(self, alert: str, beginning: str, of: Role | None = None, code: int = 0, **names: str) -> Said:
        """Run the command of a runbook, in whatever part of it, that begins so. Raises AssertionError unless it ends with `code`."""
        found = [
            each.text for each in self.runbooks if each.alert == alert and each.text.startswith(beginning)
        ]
        assert found, f"{alert} does not say `{beginning}`"
        said = self.hands.run(found[0], of, **names)
        assert said.code == code, f"{found[0]}: {said.code}\n{said.text}"
        return said
