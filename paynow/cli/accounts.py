"""`paynow accounts import`: a file of accounts with their opening amounts."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from paynow.cli import EXIT_FAULT
from paynow.cli.common import config_option, json_option, ready_database, show_json
from paynow.payments.opening_accounts import FileRefused, read_accounts
from paynow.store.imports import ImportRefused, import_accounts

FAULTS_SHOWN = 20


@click.group()
def accounts() -> None:
    """Bring in accounts."""


@accounts.command("import")
@click.argument("file", metavar="FILE.csv", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--adjust", is_flag=True, help="Where an account has another opening amount, write an entry of the difference.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
@config_option
@json_option
def import_(file: Path, adjust: bool, dry_run: bool, config_file: Path | None, as_json: bool) -> None:
    """Bring in customer_id,currency,balance: all of the file or nothing. The same file again changes nothing."""
    try:
        found = read_accounts(file)
        with ready_database(config_file) as dsn, _bar() as bar:
            task = bar.add_task("accounts", total=len(found))
            counts = import_accounts(dsn, found, adjust=adjust, dry_run=dry_run, progress=lambda rows: bar.update(task, completed=rows))
    except (FileRefused, ImportRefused) as refused:
        for line, message in refused.faults[:FAULTS_SHOWN]:
            click.echo(f"{file}:{line}: {message}", err=True)
        more = len(refused.faults) - FAULTS_SHOWN
        click.echo(f"paynow: nothing was brought in: {refused}{f' ({more} more)' if more > 0 else ''}", err=True)
        sys.exit(EXIT_FAULT)
    if as_json:
        show_json({name: counts[name] for name in ("created", "unchanged", "adjusted")})
    else:
        click.echo(f"{'would be ' if dry_run else ''}created {counts['created']}, unchanged {counts['unchanged']}, adjusted {counts['adjusted']}")


def _bar() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
