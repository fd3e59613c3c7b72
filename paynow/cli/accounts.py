"""`paynow accounts import`: a file of accounts with their opening amounts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from paynow.cli.common import config_option, json_option, progress_bar, ready_database, refused_lines_told, show_json
from paynow.payments.opening_accounts import read_accounts
from paynow.store.imports import import_accounts


@click.group()
def accounts() -> None:
    """Bring in accounts."""


@accounts.command("import")
@click.argument("file", metavar="FILE.csv", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--adjust", is_flag=True, help="Where an account was opened with another amount, write an entry of the difference.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
@config_option
@json_option
def import_(file: Path, adjust: bool, dry_run: bool, config_file: Path | None, as_json: bool) -> None:
    """Bring in customer_id,currency,balance: all of the file or nothing. The same file again changes nothing."""
    with refused_lines_told(file), ready_database(config_file) as dsn:
        counts = _imported(dsn, file, adjust=adjust, dry_run=dry_run)
    if as_json:
        show_json({"dryRun": dry_run, **{outcome: counts[outcome] for outcome in ("created", "unchanged", "adjusted")}})
    else:
        said = "would be created" if dry_run else "created"
        click.echo(f"{counts['created']} {said}, {counts['unchanged']} unchanged, {counts['adjusted']} adjusted")


def _imported(dsn: str, file: Path, *, adjust: bool, dry_run: bool) -> Counter[str]:
    """The first bar counts the bytes that are read; how long the rest takes nobody can tell, so its bars only show that it is at work."""
    with progress_bar() as bar:
        reading = bar.add_task("reading", total=file.stat().st_size)
        under_way = [reading]

        def stage(name: str) -> None:
            bar.update(under_way.pop(), total=1, completed=1)
            under_way.append(bar.add_task(name, total=None))

        rows = read_accounts(file, progress=lambda read_bytes: bar.update(reading, completed=read_bytes))
        counts = import_accounts(dsn, rows, adjust=adjust, dry_run=dry_run, stage=stage)
        bar.update(under_way.pop(), total=1, completed=1)
        return counts
