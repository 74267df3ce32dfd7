"""A mail and its sender, for tests of what is made of them."""

from __future__ import annotations

from pipeline.accounts.notices import LowBalance, Mail
from pipeline.mail.render import MailSender

SENDER = MailSender("BharatRouter", "billing@router.example", "https://router.example")
MAIL = Mail(
    id="alert:org_1:7",
    org="org_1",
    to="asha@acme.example",
    org_name="Acme Labs",
    at_ms=1_781_288_999_123,
    about=LowBalance(balance_nano=123_456_789_000_000, threshold_nano=200_000_000_000_000),
)
