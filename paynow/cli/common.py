"""What commands share: the configuration, the database, and how results are shown."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from paynow.cli import EXIT_FAULT
from paynow.errors import PayNowError
from paynow.settings import Settings
from paynow.settings.load import Loaded, load
from paynow.store import Store, embedded, migrations
from paynow.store.capacity import COMMANDS, connections_of_service
from paynow.store.imports import ImportRefused
from paynow.store.session import check_dsn, check_reachable

WIDTH_UNBOUND = 1000

Result = TypeVar("Result")

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="A TOML file over the defaults; else the one that PAYNOW_CONFIG names, if any.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON on standard output.")


class SchemaPending(PayNowError):
    """The database lacks migrations that the command needs."""


def load_settings(config_file: Path | None, options: Mapping[str, str] | None = None) -> Loaded:
    """The configuration as the service would have it in this folder. Raises `ConfigurationRefused`."""
    return load(config_file, os.environ, dotenv=Path(".env"), options=options)


@contextmanager
def database(settings: Settings, *, announce: bool = True) -> Iterator[str]:
    """The DSN of the configured server, past whatever pooler there is, or of the embedded one: attached to if it runs, else started for as long as
    this lasts. All that commands do they do over it: they need sessions, and they are few.

    `announce` says it if the embedded server's data are not where they were asked for.
    Raises `EmbeddedServerFailed`; `DatabaseFailed` if the configured server cannot be reached, `ConfigurationRefused` if its name cannot be read.
    """
    dsn, past_the_pooler = settings.secrets.database_url, settings.secrets.database_direct_url
    if dsn is not None:
        check_dsn(dsn)
        if past_the_pooler is not None:
            check_dsn(past_the_pooler, "DATABASE_DIRECT_URL")
            dsn = past_the_pooler
        check_reachable(dsn)
        yield dsn
        return
    with embedded.start(settings.database.embedded_dir, settings={"max_connections": str(_connections(settings))}) as server:
        if server.notice and announce:
            click.echo(server.notice, err=True)
        yield server.dsn


def _connections(settings: Settings) -> int:
    """What an embedded server is started with: room for the service and for commands beside it."""
    return max(int(embedded.SETTINGS["max_connections"]), connections_of_service(settings) + COMMANDS)


@contextmanager
def ready_database(config_file: Path | None) -> Iterator[str]:
    """The database of the configuration, for a command that needs the whole schema. The embedded server is brought up to date.

    Raises what `database` does, `SchemaPending` for another server that is not up to date, and `MigrationRefused`.
    """
    settings = load_settings(config_file).settings
    with database(settings) as dsn:
        prepare_schema(settings, dsn)
        yield dsn


def prepare_schema(settings: Settings, dsn: str) -> list[str]:
    """The embedded server is PayNow's own and is migrated here; a server of somebody's is migrated by `paynow migrate` only."""
    if settings.secrets.database_url is None:
        return migrations.migrate(dsn)
    if pending := migrations.pending(dsn):
        raise SchemaPending(f"the database lacks {', '.join(pending)}: run paynow migrate")
    return []


@asynccontextmanager
async def open_store(dsn: str) -> AsyncIterator[Store]:
    """A store for a command: few connections, patient."""
    store = Store(dsn, connections_max=2, connect_timeout_s=5, acquire_timeout_s=10, statement_timeout_s=30)
    try:
        yield store
    finally:
        await store.close()


def with_store(config_file: Path | None, work: Callable[[Store], Awaitable[Result]]) -> Result:
    """Runs `work` on the configured database's store."""

    async def run(dsn: str) -> Result:
        async with open_store(dsn) as store:
            return await work(store)

    with ready_database(config_file) as dsn:
        return asyncio.run(run(dsn))


@contextmanager
def refused_lines_told(file: Path) -> Iterator[None]:
    """An import that is refused ends the program with 1, every line that is wrong told with its number."""
    try:
        yield
    except ImportRefused as refused:
        for line, message in refused.faults:
            click.echo(f"{file}:{line}: {message}", err=True)
        more = refused.faults_in_all - len(refused.faults)
        click.echo(f"paynow: nothing was brought in: {refused}, {refused.faults_in_all} in all{f', {more} not shown' if more else ''}", err=True)
        sys.exit(EXIT_FAULT)


def operator() -> str:
    """Who runs the command; a user without a name, as containers have them, by number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def show_json(document: Any) -> None:
    """JSON for programs."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, none: str = "") -> None:
    """A table as wide as the terminal; into a pipe, one line a row however long it is. `none` is said, beside the output, if there are no rows."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_UNBOUND
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    console.print(table)
    if none and not rows:
        click.echo(none, err=True)


def progress_bar() -> Progress:
    """Bars on the terminal's standard error, and nothing where that is no terminal. A task without a total shows that it is at work."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<8}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
