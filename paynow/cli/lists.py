"""`paynow lists`: customers and payees that the signals call allowed or blocked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from paynow.cli.common import config_option, json_option, show_json, show_table, with_store
from paynow.clock import rfc3339
from paynow.errors import PayNowError
from paynow.settings.notation import duration_s

kind_argument = click.argument("kind", type=click.Choice(["customer", "payee"]))
listing_argument = click.argument("listing", metavar="LIST", type=click.Choice(["allow", "block"]))


class NotListed(PayNowError):
    """It was not on that list."""


@click.group()
def lists() -> None:
    """Keep the allow and block lists of customers and payees. A block outweighs an allow."""


@lists.command()
@kind_argument
@click.argument("subject", metavar="ID")
@listing_argument
@click.option("--reason", required=True, help="Why; shown in the list.")
@click.option("--expires-in", help="How long it stands, like 30d; without it until it is removed.")
@config_option
def add(kind: str, subject: str, listing: str, reason: str, expires_in: str | None, config_file: Path | None) -> None:
    """Put a customer or payee on a list, or renew its reason and expiry. The next payment sees it."""
    try:
        expires_at = datetime.now(UTC) + timedelta(seconds=duration_s(expires_in)) if expires_in else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expires-in") from None
    with_store(config_file, lambda store: store.administration.add_listing(kind, subject, listing, reason, expires_at))
    click.echo(f"{kind} {subject} is on the {listing} list")


@lists.command()
@kind_argument
@click.argument("subject", metavar="ID")
@listing_argument
@config_option
def remove(kind: str, subject: str, listing: str, config_file: Path | None) -> None:
    """Take a customer or payee off a list."""
    if not with_store(config_file, lambda store: store.administration.remove_listing(kind, subject, listing)):
        raise NotListed(f"{kind} {subject} is not on the {listing} list")
    click.echo(f"{kind} {subject} is off the {listing} list")


@lists.command()
@config_option
@json_option
def show(config_file: Path | None, as_json: bool) -> None:
    """Show everything on the lists."""
    found = with_store(config_file, lambda store: store.administration.listings())
    columns = ("kind", "id", "list", "reason", "added", "expires")
    rows = [
        (kind, subject, listing, reason, rfc3339(added), rfc3339(expires) if expires else "")
        for kind, subject, listing, reason, added, expires in found
    ]
    if as_json:
        show_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        show_table(columns, rows)
