"""`paynow serve`: the service in the foreground until it is told to stop; `--demo` makes a first start need nothing at all."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from pathlib import Path

import click
from loguru import logger

from paynow.app import Assembly, Service, check
from paynow.cli import EXIT_FAULT, demo
from paynow.cli.common import config_option, database, load_settings, prepare_schema
from paynow.observability import logs

GARBAGE_OBJECTS = 20_000


@click.command()
@config_option
@click.option("--host", help="Address to listen on [server.host].")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one [server.port].")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that share the port [server.workers].")
@click.option("--demo", "is_demo", is_flag=True, help="Make a key, demo accounts and all else that a first start lacks.")
def serve(config_file: Path | None, host: str | None, port: int | None, workers: int | None, is_demo: bool) -> None:
    """Serve payment decisions until SIGINT or SIGTERM."""
    if is_demo:
        demo.write_secrets(Path(".env"))
    options = {"server.host": host, "server.port": port, "server.workers": workers}
    loaded = load_settings(config_file, {key: str(value) for key, value in options.items() if value is not None})
    settings = loaded.settings
    assembly = check(loaded)
    logs.configure(settings.logging, hash_key=str(settings.secrets.log_hash_key).encode(), sensitive_fields=assembly.plugins.sensitive_fields)
    with database(settings) as dsn:
        for name in prepare_schema(settings, dsn):
            logger.bind(migration=name).info("migration applied")
        if is_demo:
            demo.load_accounts(dsn)
        try:
            asyncio.run(_run(assembly, dsn, is_demo=is_demo))
        except OSError as error:
            click.echo(f"paynow: cannot listen on {settings.server.host}:{settings.server.port}: {os.strerror(error.errno or 0)}", err=True)
            sys.exit(EXIT_FAULT)


async def _run(assembly: Assembly, dsn: str, *, is_demo: bool) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    service = Service(assembly, dsn)
    port = await service.start()
    # What exists now stays: the collector need not look at it again, nor as often as its defaults say at what payments leave behind.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 20, 20)
    if is_demo:
        demo.welcome(assembly.settings, port)
    try:
        await stopping.wait()
    finally:
        await service.stop()
