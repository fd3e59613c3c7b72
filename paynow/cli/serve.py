"""`paynow serve`: the service in the foreground until it is told to stop; `--demo` makes a first start need nothing at all."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
from loguru import logger

from paynow import workers as processes
from paynow.app import check
from paynow.cli import EXIT_FAULT, EXIT_REFUSED, demo
from paynow.cli.common import config_option, database, load_settings, prepare_schema
from paynow.cli.serving import run_service
from paynow.observability import logs
from paynow.settings.load import Loaded
from paynow.store.capacity import check_connections
from paynow.store.way import check_way

FOLDER_MAX_BYTES = 70
"""Of the folder for temporary files: the workers' sockets lie below, and the path of a socket has 107 at most."""


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

    def ready(port: int) -> None:
        if is_demo:
            demo.welcome(settings, port)

    with database(settings) as dsn:
        for name in prepare_schema(settings, dsn):
            logger.bind(migration=name).info("migration applied")
        check_way(dsn, settings, loaded.origin_of)
        check_connections(dsn, settings, loaded.origin_of)
        if is_demo:
            demo.load_accounts(dsn)
        try:
            if settings.server.workers == 1:
                asyncio.run(run_service(assembly, dsn, ready=ready))
            else:
                _serve_with_workers(loaded, ready)
        except OSError as error:
            click.echo(f"paynow: cannot listen on {settings.server.host}:{settings.server.port}: {os.strerror(error.errno or 0)}", err=True)
            sys.exit(EXIT_FAULT)


def _serve_with_workers(loaded: Loaded, ready: Callable[[int], None]) -> None:
    server = loaded.settings.server
    place = None if len(os.fsencode(tempfile.gettempdir())) <= FOLDER_MAX_BYTES else "/tmp"
    private = tempfile.TemporaryDirectory(prefix="paynow-", dir=place, ignore_cleanup_errors=True)
    with processes.reserved(server.host, server.port) as port, private as folder:
        try:
            clean = asyncio.run(_run_workers(processes.with_port(loaded, port), Path(folder), ready))
        except processes.WorkersFailed as failed:
            click.echo(f"paynow: {failed}", err=True)
            sys.exit(EXIT_REFUSED if failed.refused else EXIT_FAULT)
    logger.info("stopped")
    if not clean:
        sys.exit(EXIT_FAULT)


async def _run_workers(loaded: Loaded, folder: Path, ready: Callable[[int], None]) -> bool:
    server = loaded.settings.server
    workers = processes.Workers(loaded, folder)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, workers.stop)

    def serving() -> None:
        logger.bind(port=server.port, host=server.host, workers=server.workers).info("serving")
        ready(server.port)

    return await workers.run(serving)
