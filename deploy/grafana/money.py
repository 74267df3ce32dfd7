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
            runbook="docs/operations.md#payments-that-do-not-match",
        ),
        Graph(
            "Razorpay's webhooks a minute",
            "By what became of them. Bad signatures: a wrong secret, or somebody trying.",
            "short",
            (Query(rate("metering_webhooks_total", "outcome", "60 * "), "{{outcome}}"),),
        ),
        Graph(
            "Time of a call to Razorpay",
            "By what is called. Retries count one by one.",
            "s",
            quantiles("metering_razorpay_seconds", "call"),
        ),
        Graph(
            "Open orders",
            "Orders of the last 7 days that are not paid. Razorpay is asked about each, as a webhook may be lost.",
            "short",
            (Query("max(metering_orders_open)", "open"),),
        ),
        Graph(
            "Open orders asked about a minute",
            "By what Razorpay said. Failed ones are asked about again.",
            "short",
            (Query(rate("metering_orders_asked_total", "outcome", "60 * "), "{{outcome}}"),),
        ),
    ),
)

MAIL = Row(
    "Mails and webhooks to orgs",
    (
        Graph(
            "Mails a minute",
            "By what became of them. Refused, unclear and expired ones reach nobody; skipped: no mail server is set.",
            "short",
            (Query(rate("metering_mail_total", "outcome", "60 * "), "{{outcome}}"),),
            runbook="docs/runbooks.md#meteringmailfails",
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
            "Low-balance mails ordered a minute",
            "One an org and 24 hours at most.",
            "short",
            (Query(rate("metering_low_balance_alerts_total", times="60 * "), "ordered"),),
        ),
        Graph(
            "Other notices ordered a minute",
            "By kind, beside low-balance mails: each goes out as a mail, as a webhook, or as both.",
            "short",
            (Query(rate("metering_notices_total", "kind", "60 * "), "{{kind}}"),),
        ),
        Graph(
            "Webhooks to orgs a minute",
            "By what became of them, and how many were tried again. Expired ones reached nobody within a day.",
            "short",
            (
                Query(rate("metering_notice_webhooks_total", "outcome", "60 * "), "{{outcome}}"),
                Query(rate("metering_notice_webhook_retries_total", times="60 * "), "tried again"),
            ),
        ),
        Graph(
            "Webhooks to orgs waiting",
            "Not taken yet by the orgs' receivers; each is tried again for a day.",
            "short",
            (Query("sum(metering_notice_webhooks_waiting)", "waiting"),),
        ),
    ),
)
