"""A command as a caller of a running service: with the key in `API_KEY` or `.env`, so that what it does has a name and only what the key may."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from paynow.cli.common import load_settings
from paynow.errors import ConfigurationFault, ConfigurationRefused, PayNowError

TIMEOUT_S = 30.0


class NotCalled(PayNowError):
    """The service does not answer, or answers what no PayNow would."""


class Refused(PayNowError):
    """The service says no; the text is its own."""


def checked_url(context: click.Context, parameter: click.Parameter, url: str) -> str:
    """The address of a service. Raises `click.BadParameter`."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) and not (parts.query or parts.fragment)
    except ValueError:
        usable = False
    if not usable:
        raise click.BadParameter("expected the service's address, like http://127.0.0.1:8080")
    return url


url_option = click.option("--url", default="http://127.0.0.1:8080", show_default=True, callback=checked_url, help="Where the service listens.")


def api_key(config_file: Path | None, scope: str) -> str:
    """The key to call with. Raises `ConfigurationRefused` if there is none."""
    key = load_settings(config_file).settings.secrets.api_key
    if not key:
        raise ConfigurationRefused([ConfigurationFault("environment", "API_KEY", f"is not set: it has to be a key with the scope {scope}")])
    return key


def call(
    url: str, key: str, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What the service answers. Raises `Refused` with its problem's detail, `NotCalled`."""
    return asyncio.run(_call(f"{url.rstrip('/')}{path}", key, method, query, body))


async def _call(url: str, key: str, method: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None) -> dict[str, Any]:
    import aiohttp  # as heavy as all else together: only here, so that commands which call nobody stay quick

    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        # A redirect is not followed: it would carry the key elsewhere.
        async with (
            aiohttp.ClientSession(headers={"X-API-Key": key}, timeout=timeout) as session,
            session.request(method, url, params=query, json=body, allow_redirects=False) as response,
        ):
            document = await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError):
        raise NotCalled(f"the service at {url} does not answer: it may not run, or listen elsewhere (--url)") from None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise NotCalled(f"what answers at {url} is no PayNow")
    if response.status == 200:
        return document
    faults = "".join(f"; {fault['field']} {fault['message']}" for fault in document.get("errors", ()))
    raise Refused(f"{document.get('detail', 'refused')}{faults} ({document.get('code', response.status)})")
