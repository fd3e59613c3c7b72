"""`paynow migrate`: brings the database up to date, safely while others do the same."""

from __future__ import annotations

from pathlib import Path

import click

from paynow.cli.common import config_option, database, json_option, load_settings, show_json, show_table
from paynow.store import migrations


@click.command()
@config_option
@click.option("--status", "only_status", is_flag=True, help="Show every migration and when it was applied; change nothing.")
@click.option("--dry-run", is_flag=True, help="Show what would be applied; change nothing.")
@json_option
def migrate(config_file: Path | None, only_status: bool, dry_run: bool, as_json: bool) -> None:
    """Apply what the database lacks, each migration once."""
    with database(load_settings(config_file).settings) as dsn:
        if only_status:
            states = [(str(state.version), state.name, str(state.applied_at or "pending")) for state in migrations.status(dsn)]
            columns = ("version", "name", "applied")
            if as_json:
                show_json([dict(zip(columns, row, strict=True)) for row in states])
            else:
                show_table(columns, states)
            return
        names = (
            migrations.pending(dsn) if dry_run else migrations.migrate(dsn, report=lambda name: None if as_json else click.echo(f"applied {name}"))
        )
    if as_json:
        show_json({"applied": [] if dry_run else names, "pending": names if dry_run else []})
    elif not names:
        click.echo("the database is up to date")
    elif dry_run:
        click.echo("\n".join(f"would apply {name}" for name in names))
