"""`paynow keys`: API keys are made, shown once, listed and revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

import click

from paynow.api_keys import SCOPES, new_key
from paynow.cli.common import config_option, json_option, show_json, show_table, with_store
from paynow.cli.parameters import Duration, PlainText, RatePerS
from paynow.clock import rfc3339
from paynow.errors import PayNowError
from paynow.settings.notation import did_you_mean
from paynow.store.records import StoredKey

HINT = """Keep it now: only its hash is stored, and it cannot be shown again. Send it with every request:
  curl -H "X-API-Key: $KEY" http://127.0.0.1:8080/api/payments"""


class NoSuchKey(PayNowError):
    """There is no key with that id."""


def _scopes(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    if text == "all":
        return SCOPES
    chosen = tuple(dict.fromkeys(scope.strip() for scope in text.split(",") if scope.strip()))
    for scope in chosen:
        if scope not in SCOPES:
            raise click.BadParameter(f"there is no scope {scope!r}; {did_you_mean(scope, SCOPES)} There are: all, {', '.join(SCOPES)}")
    if not chosen:
        raise click.BadParameter(f"names no scope. There are: all, {', '.join(SCOPES)}")
    return chosen


@click.group()
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command()
@config_option
@click.option("--name", type=PlainText(), required=True, help="Whose key it is; shown in the list.")
@click.option("--scopes", required=True, callback=_scopes, help=f"Comma-separated, or all: {', '.join(SCOPES)}.")
@click.option("--expires-in", type=Duration(), help="How long it is valid, like 90d; without it until it is revoked.")
@click.option("--rate", type=RatePerS(), help="Requests it may make, like 100/s, that many of a second at once; without it as many as it likes.")
@json_option
def create(*, config_file: Path | None, name: str, scopes: tuple[str, ...], expires_in: timedelta | None, rate: float | None, as_json: bool) -> None:
    """Make a key and show it, this once."""
    now = datetime.now(UTC)
    key = new_key()
    stored = StoredKey(
        key_id=key.key_id,
        name=name,
        secret_sha256=key.sha256,
        scopes=scopes,
        rate_per_s=rate,
        rate_burst=ceil(rate) if rate else None,
        created_at=now,
        expires_at=now + expires_in if expires_in else None,
        revoked_at=None,
        last_used_at=None,
    )
    with_store(config_file, lambda store: store.administration.add_key(stored))
    if as_json:
        document = _document(stored)
        show_json({"id": document.pop("id"), "key": key.text, **document})
        return
    click.echo(key.text)
    click.echo(HINT, err=True)


@keys.command("list")
@config_option
@json_option
def list_(config_file: Path | None, as_json: bool) -> None:
    """Show every key there is or was; never the keys themselves."""
    found = with_store(config_file, lambda store: store.administration.keys())
    if as_json:
        show_json([_document(key) for key in found])
        return
    columns = ("id", "name", "state", "scopes", "rate", "created", "expires", "revoked", "last used")
    rows = [
        (
            key.key_id,
            key.name,
            _state(key),
            "all" if set(key.scopes) == set(SCOPES) else ", ".join(key.scopes),
            f"{key.rate_per_s:g}/s" if key.rate_per_s else "-",
            *(_when(moment) or "-" for moment in (key.created_at, key.expires_at, key.revoked_at, key.last_used_at)),
        )
        for key in found
    ]
    show_table(columns, rows, none="there are no keys yet: paynow keys create makes one")


@keys.command()
@click.argument("key_id", metavar="ID", type=PlainText())
@config_option
def revoke(key_id: str, config_file: Path | None) -> None:
    """End a key. It stops working within 10 seconds everywhere."""
    since = with_store(config_file, lambda store: store.administration.revoke_key(key_id))
    if since is None:
        raise NoSuchKey(f"there is no key with the id {key_id}: see paynow keys list")
    click.echo(f"{key_id} is revoked since {rfc3339(since)}; it stops working within 10 s")


def _document(key: StoredKey) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "name": key.name,
        "state": _state(key),
        "scopes": list(key.scopes),
        "ratePerS": key.rate_per_s,
        "createdAt": _when(key.created_at),
        "expiresAt": _when(key.expires_at),
        "revokedAt": _when(key.revoked_at),
        "lastUsedAt": _when(key.last_used_at),
    }


def _state(key: StoredKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= datetime.now(UTC) else "valid"


def _when(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None
