"""A receipt as a page to print: A4, one sheet, nothing fetched from anywhere.

Owns: the page's words, its look and its content policy. Pure: a receipt in, HTML out.
Called by: `api/routes/receipts.py`, for callers that accept HTML. Next: `api/templates/receipt.html`.
"""

from __future__ import annotations

import base64
import hashlib

from pipeline import ist
from pipeline.api.pages.templates import template
from pipeline.payments.receipts import Receipt
from pipeline.rupee_text import grouped, in_words

_METHODS = {
    "upi": "UPI",
    "card": "Card",
    "netbanking": "Netbanking",
    "wallet": "Wallet",
    "emi": "EMI",
    "paylater": "Pay later",
    "bank_transfer": "Bank transfer",
}

STYLE = """
:root { color-scheme: light; --ink: #14201c; --soft: #55635e; --line: #cfd8d4; --brand: #0b5d4e; }
* { box-sizing: border-box; }
html { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  font-variant-ligatures: none; }
body { margin: 0; padding: 1rem; background: #eef2f0; color: var(--ink); }
main { background: #fff; max-width: 210mm; margin: 0 auto; padding: clamp(1.25rem, 6vw, 18mm); border-radius: 8px;
  overflow-wrap: anywhere; }
header { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .5rem 2rem; align-items: baseline;
  border-bottom: 2px solid var(--brand); padding-bottom: .75rem; }
h1 { font-size: 1.5rem; margin: 0; }
header p { margin: 0; font-weight: 600; color: var(--brand); }
.amount { margin: 1.5rem 0; }
.amount p { margin: 0; color: var(--soft); }
.amount strong { display: block; font-size: 2.2rem; line-height: 1.2; color: var(--ink); }
dl { margin: 0; }
dl div { display: grid; grid-template-columns: 11rem 1fr; gap: 0 1rem; padding: .55rem 0;
  border-top: 1px solid var(--line); }
dt { color: var(--soft); }
dd { margin: 0; white-space: pre-line; }
.about { margin-top: 1.5rem; padding: .75rem 1rem; border: 1px solid var(--line); border-radius: 6px; }
.about p { margin: 0; }
.about p + p { margin-top: .35rem; color: var(--soft); font-size: .93em; }
nav { max-width: 210mm; margin: 0 auto 1rem; display: flex; gap: 1rem; align-items: center; }
nav button { font: inherit; padding: .6rem 1.2rem; border: 0; border-radius: 8px; background: var(--brand);
  color: #fff; cursor: pointer; }
nav a { color: var(--brand); }
:focus-visible { outline: 3px solid #e08a00; outline-offset: 2px; }
@media (max-width: 30rem) { dl div { grid-template-columns: 1fr; } }
@page { size: A4; margin: 18mm; }
@media print {
  html { font-size: 11pt; }
  body { padding: 0; background: none; }
  main { padding: 0; max-width: none; border-radius: 0; }
  nav { display: none; }
  dl div, .about { break-inside: avoid; }
}
"""
SCRIPT = 'document.getElementById("print").addEventListener("click", () => window.print());'


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def policy_of(style: str) -> str:
    """Return the content policy of a page to print: one style, the script that prints, and nothing from anywhere."""
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(SCRIPT)}; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


POLICY = policy_of(STYLE)
"""The page's content policy: its one style and its one script, and nothing from anywhere."""


def render(receipt: Receipt) -> str:
    """Return the page of a receipt. Raises AmountError for an amount that cannot have been paid."""
    payer, address = receipt.payer, receipt.address
    rows = [
        ("Payment id", receipt.payment_id),
        ("Order id", receipt.order_id),
        ("Paid on", ist.datetime_of(receipt.paid_at_ms).strftime("%d %B %Y, %H:%M:%S IST")),
        ("Method", _METHODS.get(receipt.method, receipt.method)),
        ("Payer", _lines(payer.name, payer.email, payer.contact)),
        ("Credited to the balance", _unless(receipt.credited_nano, receipt.amount_nano)),
        ("Refunded since", _unless(receipt.refunded_nano, 0)),
        ("Taken back by the bank in a dispute", _unless(receipt.disputed_nano, 0)),
        ("In dispute, not decided", _unless(receipt.in_dispute_nano, 0)),
    ]
    if address is not None:
        place = f"{address.city} {address.pin}, {address.state}"
        rows.append(("Billing address", _lines(address.name, address.line1, address.line2, place)))
        rows.append(("GSTIN of the payer", address.gstin or ""))
    return template("receipt.html").render(
        style=STYLE,
        script=SCRIPT,
        payment_id=receipt.payment_id,
        amount=grouped(receipt.amount_nano),
        words=in_words(receipt.amount_nano),
        rows=[(name, value) for name, value in rows if value],
    )


def _unless(nano: int, usual_nano: int) -> str:
    """Return an amount for a row, nothing where it is the usual one."""
    return "" if nano == usual_nano else grouped(nano)


def _lines(*texts: str | None) -> str:
    return "\n".join(text for text in texts if text)
