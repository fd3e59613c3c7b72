"""`paynow lists`: customers and payees that the signals call allowed or blocked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from paynow.cli.common import config_option, json_option, show_json, show_table, with_store
from paynow.cli.parameters import Duration, PartyId, PlainText
from paynow.clock import rfc3339
from paynow.errors import PayNowError

kind_argument = click.argument("kind", metavar="KIND", type=click.Choice(["customer", "payee"]))
subject_argument = click.argument("subject", metavar="ID", type=PartyId())
listing_argument = click.argument("listing", metavar="LIST", type=click.Choice(["allow", "block"]))


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
    with_store(config_file, lambda store: store.administration.add_listing(kind, subject, listing, reason, expires_at))
    click.echo(f"{kind} {subject} is on the {listing} list{f' until {rfc3339(expires_at)}' if expires_at else ''}")


@lists.command()
@kind_argument
@subject_argument
@listing_argument
@config_option
def remove(kind: str, subject: str, listing: str, config_file: Path | None) -> None:
    """Take a customer or payee (KIND) off the allow or block list."""
    if not with_store(config_file, lambda store: store.administration.remove_listing(kind, subject, listing)):
        raise NotListed(f"{kind} {subject} is not on the {listing} list")
    click.echo(f"{kind} {subject} is off the {listing} list")


@lists.command()
@config_option
@json_option
def show(config_file: Path | None, as_json: bool) -> None:
    """Show everything on the lists, what has expired too."""
    found = with_store(config_file, lambda store: store.administration.listings())
    now = datetime.now(UTC)
    entries = [
        {
            "kind": kind,
            "id": subject,
            "list": listing,
            "state": "expired" if expires_at is not None and expires_at <= now else "valid",
            "reason": reason,
            "addedAt": rfc3339(added_at),
            "expiresAt": rfc3339(expires_at) if expires_at else None,
        }
        for kind, subject, listing, reason, added_at, expires_at in found
    ]
    if as_json:
        show_json(entries)
    else:
        columns = ("kind", "id", "list", "state", "reason", "added", "expires")
        show_table(columns, [[value or "-" for value in entry.values()] for entry in entries], none="nobody is on a list")
