"""The command that checks a statement's proof: prove. Offline, with nothing but the file.

Called by: `cli/main.py`. Next: `notary/check.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.context import print_json, say
from pipeline.money import format_inr


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("prove")
    def prove_command(
        file: Annotated[
            Path,
            typer.Argument(
                help="The proof, as GET /me/statements/{month}/proof gave it.", exists=True, dir_okay=False
            ),
        ],
        public_key: Annotated[
            str | None, typer.Option("--public-key", help="The key that it has to be signed by, in hex.")
        ] = None,
    ) -> None:
        """Check a statement's proof, without a network: rows, costs, sums, hashes, signatures; exit 1 where it does not hold."""
        import msgspec

        from pipeline.notary.check import check
        from pipeline.notary.proof_reader import ProofError

        try:
            with file.open("rb") as lines:
                proven = check(lines, public_key)
        except ProofError as error:
            print_json({"holds": False, "why": str(error)})
            say(f"The proof does not hold: {error}.")
            raise typer.Exit(1) from None
        amounts = {
            f"{name}_inr": msgspec.Raw(format_inr(getattr(proven, f"{name}_nano")).encode())
            for name in ("opening", "credits", "debits", "closing")
        }
        shown = {"holds": True, "org": proven.org, "month": proven.month, "rows": proven.rows, **amounts}
        print_json({**shown, "signed_through": proven.signed_through, "public_key": proven.public_key})
        if proven.signed_through is None:
            say("The proof holds, but nothing in it is signed yet: it is covered by its hashes alone.")
        else:
            say(f"The proof holds; it is signed through {proven.signed_through}.")
