"""What the first `make run` needs and a production never uses: secrets in `.env`, a few accounts, and the lines that say what to paste."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import click
from dotenv import dotenv_values

from paynow.api_keys import new_key
from paynow.payments.opening_accounts import read_accounts
from paynow.resources import folder
from paynow.settings import Settings
from paynow.store.imports import import_accounts

CUSTOMER = "c_123"
PAYEE = "p_789"


def write_secrets(file: Path) -> None:
    """Adds what is missing of `API_KEY` and `LOG_HASH_KEY` to the file, which only its owner can read. What is set already stays."""
    known = {**(dotenv_values(file, interpolate=False) if file.exists() else {}), **os.environ}
    missing = {
        name: make()
        for name, make in (("API_KEY", lambda: new_key().text), ("LOG_HASH_KEY", lambda: secrets.token_urlsafe(32)))
        if not known.get(name) and not known.get(f"{name}_FILE")
    }
    if not missing:
        return
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as stream:
        os.fchmod(descriptor, 0o600)
        if stream.tell() and not file.read_text(encoding="utf-8").endswith("\n"):
            stream.write("\n")
        stream.writelines(f"{name}={value}\n" for name, value in missing.items())


def load_accounts(dsn: str) -> None:
    """The demo's accounts; repeating it changes nothing."""
    import_accounts(dsn, read_accounts(folder("config") / "demo_accounts.csv"))


def welcome(settings: Settings, port: int) -> None:
    """The curl line that decides a payment, and three next steps."""
    base = f"http://{settings.server.host}:{port}"
    key = '-H "X-API-Key: $(sed -n s/^API_KEY=//p .env)"'
    body = f'{{"customerId":"{CUSTOMER}","amount":"125.50","currency":"USD","payeeId":"{PAYEE}","idempotencyKey":"demo-1"}}'
    click.echo(
        f"""
PayNow is ready on {base}

Decide a payment (paste it in another terminal, in this folder):

  curl -s {base}/api/payments/decide {key} -H "Content-Type: application/json" -d '{body}'

Then:
  1. Paste it again: the same bytes come back, and no money moves twice.
  2. See the money that was reserved:
     curl -s {base}/api/accounts/{CUSTOMER} {key}
  3. See what was decided, and the event of it:
     curl -s "{base}/api/payments?customerId={CUSTOMER}" {key}
     curl -s {base}/api/events/recent {key}

The API is described on {base}/docs. Ctrl-C stops everything.
"""
    )
