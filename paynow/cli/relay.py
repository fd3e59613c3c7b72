"""`paynow relay`: hands events to the sinks in a process of its own, beside services that do not (`events.relay = false`) or that do."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import click
from loguru import logger

from paynow.app import Assembly, check, relay_alone
from paynow.cli import EXIT_REFUSED
from paynow.cli.common import config_option, database, load_settings, prepare_schema
from paynow.observability import logs


@click.command()
@config_option
def relay(config_file: Path | None) -> None:
    """Hand events to the configured sinks until SIGINT or SIGTERM. Any number of these share the work."""
    loaded = load_settings(config_file)
    settings = loaded.settings
    assembly = check(loaded)
    if not assembly.plugins.sinks:
        click.echo("paynow: no sink is configured: name one in events.sinks", err=True)
        sys.exit(EXIT_REFUSED)
    logs.configure(settings.logging, hash_key=str(settings.secrets.log_hash_key).encode(), sensitive_fields=assembly.plugins.sensitive_fields)
    with database(settings) as dsn:
        prepare_schema(settings, dsn)
        asyncio.run(_relay(assembly, dsn))


async def _relay(assembly: Assembly, dsn: str) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with relay_alone(assembly, dsn) as relaying:
        logger.bind(sinks=list(assembly.plugins.sinks)).info("relaying")
        told = asyncio.create_task(stopping.wait())
        await asyncio.wait({told, relaying}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if relaying.done():
            relaying.result()
    logger.info("stopped")
