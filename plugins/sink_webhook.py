"""The event sinks `webhook_NAME`, one for each table `events.webhooks.NAME`: each event is one signed POST, as Standard Webhooks says.

What an answer means is said here only: a status of 2xx is delivered, 410 wants no more, 413 refuses the event for good, all else is tried again.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv6Network, ip_address, ip_network
from typing import Any

import aiohttp
import orjson
from yarl import URL

from paynow.plugin_api import DeliveryFailed, DeliveryRefused, EventSink, SinkGone, TryLater, hookimpl

CONTENT_TYPE = "application/cloudevents+json"
ENDS_WITHIN_S = 9.0
"""No attempt is begun that might take longer than this: what takes 10 s the relay counts as failed, with all that was delivered meanwhile."""
SECRET_PREFIX = "whsec_"
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
"""Of Standard Webhooks."""
GONE, TOO_LARGE = 410, 413
MAY_SAY_WHEN = (429, 503)
"""Too many requests, and not available: answers whose `Retry-After` is heeded."""
RETRY_AFTER_MAX_S = 86_400.0

GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All IPv6 addresses that are given out to the public (RFC 4291), so neither mapped IPv4 (::ffff:0:0/96) nor NAT64 (64:ff9b::/96)."""
SPECIAL = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20")))
"""Of what `ipaddress` may take for global: protocol assignments, 6to4, which leads to any IPv4 address, and documentation (IANA's registries)."""


class NoAnswer(Exception):
    """There was none: the text says why."""


class StatusRefused(TryLater):
    """An answer, but not one that says that the event was taken; the text is its status."""


class NotTried(Exception):
    """The events before this one took all the time that a delivery has."""

    tried = False


class AddressRefused(OSError):
    """The address is not a public one."""


class WebhookSink:
    """Connects with its first delivery, and keeps connections for the next ones."""

    ordered = False

    def __init__(self, name: str, settings: Any, secrets: Sequence[bytes]) -> None:
        """`settings` are those of `events.webhooks.NAME`. Raises `ValueError` for a URL to which nothing may be sent."""
        self.name = f"webhook_{name}"
        self._settings = settings
        self._secrets = secrets
        self._url = _url(name, settings)
        self._timeout_s = settings.timeout_ms / 1000
        self._session: aiohttp.ClientSession | None = None

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        wanted = [event for event in events if self.wants(event["type"])]
        last_begin_s = asyncio.get_running_loop().time() + ENDS_WITHIN_S - self._timeout_s
        errors: dict[str, Exception] = {}
        queue = iter(wanted)
        senders = [asyncio.ensure_future(self._send(queue, last_begin_s, errors)) for _ in range(min(self._settings.in_flight, len(wanted)))]
        try:
            await asyncio.gather(*senders)
        finally:
            for sender in senders:
                sender.cancel()
        if errors:
            raise DeliveryFailed(errors)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def wants(self, event_type: str) -> bool:
        """Whether the endpoint is to get events of this type."""
        return any(event_type == wanted or (wanted[-1] == "*" and event_type.startswith(wanted[:-1])) for wanted in self._settings.types)

    async def _send(self, queue: Iterator[Mapping[str, Any]], last_begin_s: float, errors: dict[str, Exception]) -> None:
        """Sends one event of the queue after another."""
        now_s = asyncio.get_running_loop().time
        for event in queue:
            try:
                if now_s() > last_begin_s:
                    raise NotTried("no time was left")
                await self._attempt(event)
            except (NoAnswer, StatusRefused, NotTried, DeliveryRefused) as error:
                errors[event["id"]] = error

    async def _attempt(self, event: Mapping[str, Any]) -> None:
        """Posts one event. Raises what its answer means."""
        body = orjson.dumps(event)
        try:
            async with self._connected().post(self._url, data=body, headers=self._headers(event["id"], body), allow_redirects=False) as answer:
                status, retry_after = answer.status, answer.headers.get("retry-after", "")
        except TimeoutError:
            raise NoAnswer(f"none within {self._settings.timeout_ms} ms") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(_cause(error)) from None
        if status == GONE:
            raise SinkGone(str(GONE))
        if status == TOO_LARGE:
            raise DeliveryRefused(str(TOO_LARGE))
        if not 200 <= status < 300:
            raise StatusRefused(str(status), retry_after_s=retry_after_s(retry_after) if status in MAY_SAY_WHEN else 0.0)

    def _headers(self, event_id: str, body: bytes) -> dict[str, str]:
        timestamp = str(int(time.time()))
        return {
            "content-type": CONTENT_TYPE,
            "webhook-id": event_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": " ".join(signature(secret, event_id, timestamp, body) for secret in self._secrets),
        }

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._settings.in_flight, socket_factory=None if self._settings.allow_private else public_socket
                ),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                headers={"user-agent": "PayNow"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


def signature(secret: bytes, event_id: str, timestamp: str, body: bytes) -> str:
    """One signature of Standard Webhooks, with its version."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()}"


def signing_secrets(secrets: Any, webhook: str) -> tuple[bytes, ...]:
    """A webhook's own secrets (`WEBHOOK_SECRET_NAME`), or those of all (`WEBHOOK_SECRET`). Raises `ValueError`, which repeats nothing of them."""
    own = f"WEBHOOK_SECRET_{webhook.upper()}"
    has_own = webhook in secrets.webhook_secrets
    name, text = (own, secrets.webhook_secrets[webhook]) if has_own else ("WEBHOOK_SECRET", secrets.webhook_secret)
    if text is None:
        raise ValueError(f"the webhook {webhook} needs {own} or WEBHOOK_SECRET, neither is set")
    found = tuple(_secret(name, word) for word in re.split(r"[\s,]+", text) if word)
    if not found:
        raise ValueError(f"{name}: expected a secret")
    return found


def _secret(name: str, word: str) -> bytes:
    try:
        secret = base64.b64decode(word.removeprefix(SECRET_PREFIX), validate=True) if word.startswith(SECRET_PREFIX) else b""
    except (binascii.Error, ValueError):
        secret = b""
    if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        expected = f"{SECRET_PREFIX} and then {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes in base64"
        raise ValueError(f"{name}: expected {expected}; several with a space or comma between them")
    return secret


def retry_after_s(text: str) -> float:
    """The seconds that a `Retry-After` stands for, in either form (RFC 9110), up to a day; 0 if it is in the past or cannot be read."""
    if text.isascii() and text.isdigit():
        return min(float(text), RETRY_AFTER_MAX_S)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(moment.timestamp() - time.time(), 0.0), RETRY_AFTER_MAX_S)


def is_public(address: str) -> bool:
    """Whether anybody may have this IP address: not this machine, nor a network of its own, nor a group, nor one that leads to another."""
    ip = ip_address(address)
    if not ip.is_global or ip.is_multicast or any(ip in network for network in SPECIAL):
        return False
    return isinstance(ip, IPv4Address) or ip in GLOBAL_UNICAST


def public_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for an address that is about to be connected to, whatever name it came from. Raises `AddressRefused`."""
    family, kind, protocol, _, (host, *_rest) = address
    if not is_public(host):
        raise AddressRefused("the address is not public")
    return socket.socket(family, kind, protocol)


def _url(name: str, settings: Any) -> URL:
    if not settings.url:
        raise ValueError(f"events.webhooks.{name}.url is not set")
    url = URL(settings.url)
    try:
        refused = not settings.allow_private and not is_public(url.host or "")
    except ValueError:  # a name, whose address is looked at when it is connected to
        refused = False
    if refused:
        raise ValueError(f"events.webhooks.{name}.url: the address is not public, and events.webhooks.{name}.allow_private is false")
    return url


def _cause(error: BaseException) -> str:
    """The class of what went wrong, which unlike its text tells nothing of URLs and addresses."""
    while isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    return type(error).__name__


@hookimpl
def paynow_register_event_sinks(settings) -> Sequence[EventSink]:
    webhooks = settings.events.webhooks
    return [WebhookSink(name, webhook, signing_secrets(settings.secrets, name)) for name, webhook in webhooks.items()]
