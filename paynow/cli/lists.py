"""`paynow lists`: customers and payees that the signals call allowed or blocked."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from paynow.cli.common import (
    config_option,
    json_option,
    operator,
    progress_bar,
    ready_database,
    refused_lines_told,
    show_json,
    show_table,
    with_store,
)
from paynow.cli.parameters import Duration, PartyId, PlainText
from paynow.clock import rfc3339
from paynow.errors import PayNowError
from paynow.payments.listing_file import read_listings
from paynow.payments.listings import KINDS, LISTS, listing_json
from paynow.store.lists import import_listings

kind_argument = click.argument("kind", metavar="KIND", type=click.Choice(KINDS))
subject_argument = click.argument("subject", metavar="ID", type=PartyId())
listing_argument = click.argument("listing", metavar="LIST", type=click.Choice(LISTS))


class NotListed(PayNowError):
    """It was not on that list."""


@click.group()
def lists() -> None:
    """Keep the allow and block lists of customers and payees. A block outweighs an allow."""


@lists.command()
@kind_argument
@subject_argument
@listing_argument
@click.option("--reason", type=PlainText(), required=True, help="Why; shown in the list.")
@click.option("--expires-in", type=Duration(), help="How long it stands, like 30d; without it until it is removed.")
@config_option
def add(*, kind: str, subject: str, listing: str, reason: str, expires_in: timedelta | None, config_file: Path | None) -> None:
    """Put a customer or payee (KIND) on the allow or block list, or renew its reason and expiry. The next payment sees it."""
    expires_at = datetime.now(UTC) + expires_in if expires_in else None
    with_store(config_file, lambda store: store.lists.put(kind, subject, listing, reason=reason, expires_at=expires_at, author=operator()))
    click.echo(f"{kind} {subject} is on the {listing} list{f' until {rfc3339(expires_at)}' if expires_at else ''}")


@lists.command()
@kind_argument
@subject_argument
@listing_argument
@config_option
def remove(kind: str, subject: str, listing: str, config_file: Path | None) -> None:
    """Take a customer or payee (KIND) off the allow or block list."""
    if not with_store(config_file, lambda store: store.lists.remove(kind, subject, listing, author=operator())):
        raise NotListed(f"{kind} {subject} is not on the {listing} list")
    click.echo(f"{kind} {subject} is off the {listing} list")


@lists.command("import")
@click.argument("file", metavar="FILE.csv", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
@config_option
@json_option
def import_(file: Path, dry_run: bool, config_file: Path | None, as_json: bool) -> None:
    """Bring in kind,id,list,reason,expires_at: all of the file or nothing. The same file again changes nothing; what it leaves out stays."""
    with refused_lines_told(file), ready_database(config_file) as dsn:
        counts = _imported(dsn, file, dry_run=dry_run)
    if as_json:
        show_json({"dryRun": dry_run, **{outcome: counts[outcome] for outcome in ("added", "renewed", "unchanged")}})
    else:
        click.echo(f"{counts['added']} {'would be added' if dry_run else 'added'}, {counts['renewed']} renewed, {counts['unchanged']} unchanged")


@lists.command()
@config_option
@json_option
def show(config_file: Path | None, as_json: bool) -> None:
    """Show everything on the lists, what has expired too."""
    found = with_store(config_file, lambda store: store.lists.all())
    now = datetime.now(UTC)
    entries = [listing_json(entry, now) for entry in found]
    if as_json:
        show_json(entries)
    else:
        columns = ("kind", "id", "list", "state", "reason", "author", "added", "expires")
        show_table(columns, [[value or "-" for value in entry.values()] for entry in entries], none="nobody is on a list")


def _imported(dsn: str, file: Path, *, dry_run: bool) -> Counter[str]:
    """The first bar counts the bytes that are read; how long the writing takes nobody can tell, so its bar only shows that it is at work."""
    with progress_bar() as bar:
        reading = bar.add_task("reading", total=file.stat().st_size)
        under_way = [reading]

        def stage(name: str) -> None:
            bar.update(under_way.pop(), total=1, completed=1)
            under_way.append(bar.add_task(name, total=None))

        lines = read_listings(file, progress=lambda read_bytes: bar.update(reading, completed=read_bytes))
        counts = import_listings(dsn, lines, author=operator(), dry_run=dry_run, stage=stage)
        bar.update(under_way.pop(), total=1, completed=1)
        return counts
