"""The command that posts what is missing of one payment: settle.

Called by: `cli/main.py`. Next: `payments/settling.py`, in the server of a running `up` or here.
"""

from __future__ import annotations

from urllib.parse import quote

import typer

from pipeline.cli import engine_work
from pipeline.cli.asking import with_client
from pipeline.cli.context import DATA_DIR, CommandError, DataDir, print_json, running_on, settings_for
from pipeline.kafka.commands import CommandRefusedError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("settle")(settle_command)


def settle_command(payment_id: str, data_dir: DataDir = DATA_DIR) -> None:
    """Look a payment up at Razorpay and post what is missing of it: its capture, refunds and lost disputes.

    A payment that does not match its order is credited as what was paid: call it once that is decided. Safe to
    repeat, and webhooks that come later have no second effect.
    """
    from pipeline.payments.settling import NotSettledError, Settlement, settle_alone
    from pipeline.razorpay.client import RazorpayRefusedError, RazorpayUnavailableError

    running = running_on(data_dir)
    if running is not None:
        print_json(engine_work.in_server(running, f"settle/{quote(payment_id, safe='')}", Settlement))
        return
    settings = settings_for(data_dir)
    try:
        print_json(with_client(settings, lambda client: settle_alone(settings, client, payment_id)))
    except (RazorpayUnavailableError, RazorpayRefusedError) as error:
        raise CommandError(f"Razorpay: {error}") from None
    except (NotSettledError, CommandRefusedError) as error:
        raise CommandError(str(error)) from None
