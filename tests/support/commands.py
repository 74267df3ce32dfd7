"""A command of each kind, for tests that take any."""

from __future__ import annotations

from pipeline.accounts.commands import Barrier, ChangeKey, Command, CreateKey, Credit, SignUp, View

COMMANDS: list[Command] = [
    SignUp("1", "org", "नाम", "a@example.in", "f"),
    CreateKey("1", "org", "k", "n", "br-abc", "00", "trial", 5, None, 6, 7, "nonce", "f"),
    ChangeKey("1", "org", "k", budget_nano=None, revoked=True),
    ChangeKey("1", "org", "k", name="n", daily_limit=3),
    Credit("1", "org", -5, "reason"),
    View("1", "org"),
    Barrier("1", 77),
]
