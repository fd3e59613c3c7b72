"""`paynow keys`: API keys are made, shown once, listed and revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path

import click

from paynow.api_keys import SCOPES, new_key
from paynow.cli.common import config_option, json_option, show_json, show_table, with_store
from paynow.clock import rfc3339
from paynow.errors import PayNowError
from paynow.settings.notation import did_you_mean, duration_s, rate_per_s
from paynow.store.records import StoredKey


class NoSuchKey(PayNowError):
    """There is no key with that id."""


@click.group()
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command()
@config_option
@click.option("--name", required=True, help="Whose key it is; shown in the list.")
@click.option("--scopes", required=True, help=f"Comma-separated, or all: {', '.join(SCOPES)}.")
@click.option("--expires-in", help="How long it is valid, like 90d; without it until it is revoked.")
@click.option("--rate", help="Requests it may make, like 100/s; without it as many as it likes.")
@json_option
def create(config_file: Path | None, name: str, scopes: str, expires_in: str | None, rate: str | None, as_json: bool) -> None:
    """Make a key and show it, this once."""
    chosen = _scopes(scopes)
    now = datetime.now(UTC)
    expires_at = now + timedelta(seconds=_parsed("--expires-in", duration_s, expires_in)) if expires_in else None
    per_second = _parsed("--rate", rate_per_s, rate) if rate else None
    key = new_key()
    stored = StoredKey(key.key_id, name, key.sha256, chosen, per_second, ceil(per_second) if per_second else None, now, expires_at, None, None)
    with_store(config_file, lambda store: store.administration.add_key(stored))
    if as_json:
        show_json({"id": key.key_id, "key": key.text, "scopes": list(chosen), "expiresAt": _when(expires_at)})
        return
    click.echo(key.text)
    click.echo("Keep it now: it is not stored and cannot be shown again. Send it as the header X-API-Key.", err=True)


@keys.command("list")
@config_option
@json_option
def list_(config_file: Path | None, as_json: bool) -> None:
    """Show every key there is or was; never the keys themselves."""
    found = with_store(config_file, lambda store: store.administration.keys())
    columns = ("id", "name", "state", "scopes", "rate", "created", "expires", "lastUsed")
    rows = [
        (
            key.key_id,
            key.name,
            _state(key),
            ",".join(key.scopes),
            f"{key.rate_per_s:g}/s" if key.rate_per_s else "",
            _when(key.created_at) or "",
            _when(key.expires_at) or "",
            _when(key.last_used_at) or "",
        )
        for key in found
    ]
    if as_json:
        show_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        show_table(columns, rows)


@keys.command()
@click.argument("key_id", metavar="ID")
@config_option
def revoke(key_id: str, config_file: Path | None) -> None:
    """End a key. It stops working within 10 seconds everywhere."""
    since = with_store(config_file, lambda store: store.administration.revoke_key(key_id))
    if since is None:
        raise NoSuchKey(f"there is no key with the id {key_id}: see paynow keys list")
    click.echo(f"{key_id} is revoked since {rfc3339(since)}; it stops working within 10 s")


def _scopes(text: str) -> tuple[str, ...]:
    if text == "all":
        return SCOPES
    chosen = tuple(dict.fromkeys(scope.strip() for scope in text.split(",") if scope.strip()))
    for scope in chosen:
        if scope not in SCOPES:
            raise click.BadParameter(f"there is no scope {scope!r}: {did_you_mean(scope, SCOPES)}", param_hint="--scopes")
    if not chosen:
        raise click.BadParameter("names no scope", param_hint="--scopes")
    return chosen


def _parsed(option, parse, text):
    try:
        return parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _state(key: StoredKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= datetime.now(UTC) else "valid"


def _when(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None
