"""Panels of the board: payments, and what orgs are told by mail and webhook.

Owns: these rows. Called by: `board.py`.
"""

from __future__ import annotations

from graphs import Graph, Query, Row, quantiles, rate

PAYMENTS = Row(
    "Payments",
    (
        Graph(
            "Payments and refunds a minute",
            "By what became of them. Mismatched ones and strays want a person to look: metering reconcile.",
            "short",
            (Query(rate("metering_money_records_total", "outcome", "60 * "), "{{outcome}}"),),
        ),
        Graph(
            "Webhooks a minute",
            "By what became of them. Bad signatures: a wrong secret, or somebody trying.",
            "short",
            (Query(rate("metering_webhooks_total", "outcome", "60 * "), "{{outcome}}"),),
        ),
        Graph(
            "Calls to Razorpay",
            "Time of a call; how often open orders are asked about stands beside it.",
            "s",
            quantiles("metering_razorpay_seconds", "call"),
        ),
        Graph(
            "Open orders",
            "Orders of the last 7 days that are not paid, and answers a minute when they are asked about.",
            "short",
            (
                Query("max(metering_orders_open)", "open"),
                Query(rate("metering_orders_asked_total", "outcome", "60 * "), "asked: {{outcome}}"),
            ),
        ),
        Graph(
            "Low-balance mails ordered a minute",
            "One an org and 24 hours at most.",
            "short",
            (Query(rate("metering_low_balance_alerts_total", times="60 * "), "ordered"),),
        ),
    ),
)

MAIL = Row(
    "Mail",
    (
        Graph(
            "Mails a minute",
            "By what became of them. Refused, unclear and expired ones reach nobody; skipped: no mail server is set.",
            "short",
            (Query(rate("metering_mail_total", "outcome", "60 * "), "{{outcome}}"),),
        ),
        Graph(
            "Mails waiting",
            "Refused for now by the mail server; each is tried again until it is too old.",
            "short",
            (Query("sum(metering_mail_waiting)", "waiting"),),
        ),
        Graph(
            "Mails tried again a minute",
            "High and steady: the mail server turns us away.",
            "short",
            (Query(rate("metering_mail_retries_total", times="60 * "), "retries"),),
        ),
        Graph(
            "Notices ordered a minute",
            "By kind, beside low-balance mails: each goes out as a mail, as a webhook, or as both.",
            "short",
            (Query(rate("metering_notices_total", "kind", "60 * "), "{{kind}}"),),
        ),
        Graph(
            "Webhooks a minute",
            "By what became of them, and how many were tried again. Expired ones reached nobody within a day.",
            "short",
            (
                Query(rate("metering_notice_webhooks_total", "outcome", "60 * "), "{{outcome}}"),
                Query(rate("metering_notice_webhook_retries_total", times="60 * "), "tried again"),
            ),
        ),
        Graph(
            "Webhooks waiting",
            "Not taken yet by the orgs' receivers; each is tried again for a day.",
            "short",
            (Query("sum(metering_notice_webhooks_waiting)", "waiting"),),
        ),
    ),
)
