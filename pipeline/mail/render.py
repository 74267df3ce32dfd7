"""Make the message of a mail, with subject, plain text and HTML, from its record alone.

Owns: the headers, and that nothing from outside becomes a header or markup. Pure.
Called by: `mail/protocol.py`. Next: `mail/words.py` has the subject and the facts, `mail/templates/` the words.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline import ist
from pipeline.accounts.notices import Mail
from pipeline.mail.words import words_of

NAME_LENGTH_MAX = 80
ADDRESS_LENGTH_MAX = 254

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_templates = Environment(
    loader=PackageLoader("pipeline.mail"),
    autoescape=True,
    undefined=StrictUndefined,
    keep_trailing_newline=True,
)
_plain = _templates.overlay(autoescape=False)


class AddressError(ValueError):
    """A text that is not exactly one plain mail address. The text itself is never repeated."""


@dataclass(frozen=True)
class MailSender:
    """Whom mails come from, and where the product is reached by a browser, if that is known."""

    name: str
    address: str
    public_url: str | None = None

    @classmethod
    def parse(cls, text: str, public_url: str | None = None) -> MailSender:
        """Return the sender of `Name <name@host>` or a bare address. Raises AddressError."""
        name, address = parseaddr(text)
        return cls(one_line(name), plain_address(address), public_url)


def plain_address(text: str) -> str:
    """Return an address that is exactly one, in ASCII, and can hold nothing else. Raises AddressError."""
    if not text.isascii() or len(text) > ADDRESS_LENGTH_MAX or _UNPRINTABLE.search(text) or " " in text:
        raise AddressError("not a plain mail address")
    try:
        address = Address(addr_spec=text)
    except (MessageError, ValueError, IndexError):
        raise AddressError("not a plain mail address") from None
    if not address.username or not address.domain or address.addr_spec != text:
        raise AddressError("not a plain mail address")
    return text


def one_line(text: str) -> str:
    """Return a text that fits into one line of a header: no control characters, and not too long.

    An encoded word would be decoded when it becomes a header, line breaks in it and all: it is broken up.
    """
    line = " ".join(_UNPRINTABLE.sub(" ", text).replace("=?", "= ?").split())
    return line if len(line) <= NAME_LENGTH_MAX else line[: NAME_LENGTH_MAX - 1] + "…"


def message_id(mail_id: str, domain: str) -> str:
    """Return the Message-ID of a mail: the same for every attempt, so that a reader can tell."""
    return f"<{hashlib.sha256(mail_id.encode()).hexdigest()[:40]}@{domain}>"


def render(mail: Mail, sender: MailSender) -> EmailMessage:
    """Return the message of a mail. Raises AddressError where its address is none."""
    recipient = plain_address(mail.to)
    name = one_line(mail.org_name) or mail.org
    words = words_of(mail.about)
    facts = {
        **words.facts,
        "name": name,
        "org": mail.org,
        "at": ist.datetime_of(mail.at_ms).strftime("%d %b %Y, %H:%M IST"),
        "link": f"{sender.public_url.rstrip('/')}{words.page}" if sender.public_url else None,
    }
    message = EmailMessage()
    message["From"] = Address(sender.name, addr_spec=sender.address)
    message["To"] = Address(addr_spec=recipient)
    message["Subject"] = one_line(f"{words.subject}, {name}")
    message["Date"] = format_datetime(ist.datetime_of(mail.at_ms))
    message["Message-ID"] = message_id(mail.id, sender.address.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(_plain.get_template(f"{words.template}.txt").render(facts))
    message.add_alternative(_templates.get_template(f"{words.template}.html").render(facts), subtype="html")
    return message
