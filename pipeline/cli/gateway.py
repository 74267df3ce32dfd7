"""The commands for gateways: gateway create, gateway remove, gateway list.

Called by: `cli/main.py`. Next: `gateway_book.py` derives keys, `kafka/gateways.py` registers.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

import typer
from aiokafka.errors import KafkaError

from pipeline.cli.asking import with_client
from pipeline.cli.context import DATA_DIR, CommandError, DataDir, print_json, settings_for
from pipeline.gateway_book import GatewayKey, RegisteredGateway, registered
from pipeline.kafka.attempts import described
from pipeline.kafka.commands import CommandClient
from pipeline.kafka.gateways import read_gateways, register_gateway, remove_gateway

gateway_app = typer.Typer(help="Gateways whose sources nobody else can use.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The gateway's node name: its sources begin with gateway/NAME.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(gateway_app, name="gateway")


@gateway_app.command("create")
def create(
    name: Name,
    renew: Annotated[
        bool,
        typer.Option("--renew", help="Make another key; the last one stays accepted, older ones do not."),
    ] = False,
    key_only: Annotated[
        bool,
        typer.Option(
            "--key-only", help="Print the key and change nothing: for a gateway that works already."
        ),
    ] = False,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Register a gateway and print its key. From then on its sources count only in records that the key signed.

    Safe to repeat. Returns when every worker knows. A gateway that works already gets its key first
    (--key-only), and is registered once it signs.
    """
    settings = settings_for(data_dir)
    decide = partial(registered, name, renew=renew)
    try:
        decide(None)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from None

    async def work(client: CommandClient) -> RegisteredGateway:
        gateway, end = await register_gateway(settings.kafka, settings.deployment, name, decide)
        await client.barrier(gateways_offset=end)
        return gateway

    root = settings.command_keys.keys[0]
    if key_only:
        known = {gateway.name: gateway for gateway in _known(data_dir)}
        gateway = decide(known.get(name))
    else:
        gateway = with_client(settings, work)
    key = GatewayKey.derived(root, name, gateway.numbers[-1])
    print_json({"gateway": name, "registered": not key_only, "accepted": gateway.numbers, "key": key.text()})


@gateway_app.command("remove")
def remove(name: Name, data_dir: DataDir = DATA_DIR) -> None:
    """Let anybody use a gateway's sources again, as before it was registered. Returns when every worker knows."""
    settings = settings_for(data_dir)

    async def work(client: CommandClient) -> None:
        end = await remove_gateway(settings.kafka, settings.deployment, name)
        await client.barrier(gateways_offset=end)

    try:
        with_client(settings, work)
    except LookupError as error:
        raise CommandError(str(error)) from None
    print_json({"gateway": name, "registered": False})


@gateway_app.command("list")
def list_gateways(data_dir: DataDir = DATA_DIR) -> None:
    """Print the registered gateways and the numbers of the keys that are accepted."""
    print_json([{"gateway": each.name, "accepted": each.numbers} for each in _known(data_dir)])


def _known(data_dir: DataDir) -> list[RegisteredGateway]:
    try:
        return asyncio.run(read_gateways(settings_for(data_dir).kafka))
    except (KafkaError, OSError) as error:
        raise CommandError(f"Kafka cannot be read: {described(error)}") from None
