"""`paynow migrate`: brings the database up to date, safely while others do the same."""

from __future__ import annotations

from pathlib import Path

import click

from paynow.cli.common import config_option, database, json_option, load_settings, show_json, show_table
from paynow.clock import rfc3339
from paynow.store import migrations
from paynow.store.migrations import MigrationState


@click.command()
@config_option
@click.option("--status", "only_status", is_flag=True, help="Show every migration and when it was applied; change nothing.")
@click.option("--dry-run", is_flag=True, help="Show what would be applied; change nothing.")
@json_option
def migrate(config_file: Path | None, only_status: bool, dry_run: bool, as_json: bool) -> None:
    """Apply what the database lacks, each migration once."""
    if only_status and dry_run:
        raise click.UsageError("--status and --dry-run are two questions: ask one of them")
    with database(load_settings(config_file).settings) as dsn:
        if only_status:
            _show_states(migrations.status(dsn), as_json=as_json)
        elif dry_run:
            _show_names("pending", "would apply", migrations.pending(dsn), as_json=as_json)
        else:
            applied = migrations.migrate(dsn, report=lambda name: None if as_json else click.echo(f"applied {name}"))
            _show_names("applied", None, applied, as_json=as_json)


def _show_names(key: str, verb: str | None, names: list[str], *, as_json: bool) -> None:
    """`verb` is None if each name was told already."""
    if as_json:
        show_json({key: names})
    elif not names:
        click.echo("the database is up to date")
    elif verb:
        click.echo("\n".join(f"{verb} {name}" for name in names))


def _show_states(states: list[MigrationState], *, as_json: bool) -> None:
    if as_json:
        show_json([{"name": state.name, "appliedAt": rfc3339(state.applied_at) if state.applied_at else None} for state in states])
    else:
        rows = [(state.name, rfc3339(state.applied_at) if state.applied_at else "pending") for state in states]
        show_table(("migration", "applied"), rows, none="there are no migrations")
