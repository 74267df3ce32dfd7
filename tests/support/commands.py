"""A command of each kind, for tests that take any."""

from __future__ import annotations

from pipeline.accounts.commands import (
    AnyCommand,
    Barrier,
    Capture,
    ChangeKey,
    CheckPromo,
    CreateKey,
    Credit,
    Fail,
    Find,
    FoundOrder,
    NoteStray,
    OpenOrder,
    PrepareOrder,
    SetAddress,
    SetNotices,
    SetThreshold,
    SetWebhook,
    SignUp,
    TakeDispute,
    TakeRefund,
    TellStatements,
    TellUnusualHour,
    View,
)

COMMANDS: list[AnyCommand] = [
    SignUp("1", "org", "नाम", "a@example.in", "f"),
    CreateKey("1", "org", "k", "n", "br-abc", "00", "trial", 5, None, 6, 7, "nonce", "f"),
    ChangeKey("1", "org", "k", budget_nano=None, revoked=True),
    ChangeKey("1", "org", "k", name="n", daily_limit=3),
    Credit("1", "org", -5, "reason"),
    SetAddress("1", "org", "n", "l", "c", "s", "560001", None, "29ABCDE1234F1Z5", "f"),
    SetThreshold("1", "org", None, "f"),
    SetNotices("1", "org", {"mail": False}),
    TellStatements("1", 202611),
    TellUnusualHour("1", "org", 1_781_289_000_000, 5, 1, "key_1", "m"),
    SetWebhook("1", "org", "https://hooks.acme.example/x", "nonce", new_secret=True),
    CheckPromo("1", "org", "NAMASTE"),
    PrepareOrder("1", "org", 50_000, "NAMASTE", "nonce", "f"),
    OpenOrder("1", "org", "order", 50_000, "NAMASTE", 5, "f"),
    Capture(
        "1", "org", "pay", "order", 50_000, "INR", 7, "upi", "e", "c", FoundOrder(50_000, "NAMASTE"), "f"
    ),
    Fail("1", "org", "pay", "order", 50_000, "INR", 7, "upi", "e", "c", "f"),
    TakeRefund("1", "org", "rfnd", "pay", 20_000, "INR", failed=True, fingerprint="f"),
    TakeDispute("1", "org", "disp", "pay", "lost", 20_000, 20_000, "INR", fingerprint="f"),
    Find("1", "org", "order", "pay", "other"),
    NoteStray("1", "pay", "order", 50_000, "INR"),
    View("1", "org"),
    Barrier("1", 77),
]
