"""Webhooks: what receivers get, what their answers mean, and where nothing is ever sent."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from paynow.errors import ConfigurationRefused
from paynow.plugin_api import DeliveryFailed, DeliveryRefused, SinkGone
from paynow.plugin_loader import load_plugins
from paynow.settings import Settings, WebhookSettings
from waiting import meanwhile
from webhook_receiver import OTHER_SECRET, SECRET, never, receiving, status

Load = Callable[..., Any]


def event(number: int, event_type: str = "paynow.payment.decided") -> dict[str, Any]:
    data = {"customerId": "c_é", "amount": "125.50"}
    return {"specversion": "1.0", "id": str(uuid4()), "type": event_type, "sequence": f"{number:019d}", "data": data}


def configured(settings: Settings, url: str, secret: str | None = SECRET, sinks: tuple[str, ...] = ("webhook_shop",), **changes: Any) -> Settings:
    webhook = WebhookSettings(**{"url": url, "types": ("*",), "timeout_ms": 2000, "in_flight": 4, "allow_private": True, **changes})
    events = replace(settings.events, sinks=sinks, webhooks=MappingProxyType({"shop": webhook}))
    return replace(settings, events=events, secrets=replace(settings.secrets, webhook_secret=secret))


def loaded(*args: Any, **changes: Any) -> Any:
    return load_plugins(configured(*args, **changes)).sinks["webhook_shop"]


@pytest.fixture
def load(settings_of: Callable[..., Settings]) -> Load:
    """Loads the sink `webhook_shop` as a boot does: its URL, the secret, other settings."""
    return lambda url, secret=SECRET, **changes: loaded(settings_of(), url, secret, **changes)


@pytest.fixture
def opened(load: Load) -> Load:
    """The same, closed in the end."""

    @asynccontextmanager
    async def open_(*args: Any, **changes: Any) -> AsyncIterator[Any]:
        sink = load(*args, **changes)
        try:
            yield sink
        finally:
            await sink.close()

    return open_


async def failures(sink: Any, *events: dict[str, Any]) -> dict[str, str]:
    """What the sink says went wrong, by event id, as the dead letters show it."""
    with pytest.raises(DeliveryFailed) as failed:
        await sink.deliver(events)
    return {event_id: f"{type(error).__name__}: {error}" for event_id, error in failed.value.errors.items()}


# ---------------------------------------------------------------- what is sent


async def test_an_event_is_one_post_of_the_signed_bytes(opened: Load) -> None:
    one = event(1)
    async with receiving() as receiver, opened(f"{receiver.url}?token=1") as sink:
        assert sink.ordered is False
        await sink.deliver([one])
    ((path, headers, body),) = receiver.requests
    assert (path, json.loads(body)) == ("/hook?token=1", one)
    assert (headers["content-type"], headers["user-agent"]) == ("application/cloudevents+json", "PayNow")
    assert headers["webhook-id"] == one["id"]
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 5
    assert Webhook(SECRET).verify(body, headers) == one
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace(b"125.50", b"925.50"), headers)


@pytest.mark.parametrize("between", [" ", ",", ", "])
async def test_while_secrets_change_each_of_them_verifies(opened: Load, between: str) -> None:
    async with receiving() as receiver, opened(receiver.url, f"{SECRET}{between}{OTHER_SECRET}") as sink:
        await sink.deliver([event(1)])
    ((_, headers, body),) = receiver.requests
    for secret in (SECRET, OTHER_SECRET):
        Webhook(secret).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + base64.b64encode(b"another secret of someone").decode()).verify(body, headers)


async def test_events_of_other_types_count_as_delivered(opened: Load) -> None:
    wanted = [event(1, "paynow.payment.decided"), event(2, "paynow.case.resolved")]
    others = [event(3, "paynow.reservation.captured"), event(4, "paynow.case.resolved.not")]
    async with receiving() as receiver, opened(receiver.url, types=("paynow.payment.*", "paynow.case.resolved")) as sink:
        await sink.deliver([*others, *wanted])
        await sink.deliver(others)
    assert sorted(receiver.ids) == sorted(one["id"] for one in wanted)


async def test_never_more_are_sent_at_once_than_in_flight(opened: Load) -> None:
    full, gate = asyncio.Event(), asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        if receiver.at_once == 3:
            full.set()
        await gate.wait()
        return web.Response()

    async with receiving(answer) as receiver, opened(receiver.url, in_flight=3) as sink:
        delivering = asyncio.create_task(sink.deliver([event(number) for number in range(12)]))
        await asyncio.wait_for(full.wait(), 5)
        gate.set()
        await delivering
    assert (receiver.at_once_most, len(set(receiver.ids))) == (3, 12)


async def test_connections_are_kept_for_the_next_events(opened: Load) -> None:
    peers = set()

    async def answer(request: web.Request) -> web.Response:
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(text="ok")

    async with receiving(answer) as receiver, opened(receiver.url, in_flight=1) as sink:
        for number in range(3):
            await sink.deliver([event(number)])
    assert len(peers) == 1


# ---------------------------------------------------------------- what answers mean


@pytest.mark.parametrize("number", [200, 201, 204, 299])
async def test_any_2xx_is_delivered(opened: Load, number: int) -> None:
    async with receiving(status(number)) as receiver, opened(receiver.url) as sink:
        await sink.deliver([event(1), event(2)])
    assert len(receiver.requests) == 2


@pytest.mark.parametrize("number", [304, 400, 401, 404, 409, 422, 429, 500, 503])
async def test_other_answers_are_tried_again_and_told_without_the_answer(opened: Load, number: int) -> None:
    one = event(1)
    async with receiving(status(number)) as receiver, opened(f"{receiver.url}?token=1") as sink:
        assert await failures(sink, one) == {one["id"]: f"StatusRefused: {number}"}


async def asked_s(opened: Load, number: int, retry_after: str) -> float:
    async with receiving(status(number, **{"Retry-After": retry_after})) as receiver, opened(receiver.url) as sink:
        with pytest.raises(DeliveryFailed) as failed:
            await sink.deliver([event(1)])
    (error,) = failed.value.errors.values()
    return error.retry_after_s


@pytest.mark.parametrize(
    ("number", "retry_after", "seconds"),
    [
        (429, "120", 120),
        (503, "120", 120),
        (503, "86401", 86_400),
        (429, "9" * 400, 86_400),
        (429, "0", 0),
        (429, "-5", 0),
        (429, "1.5", 0),
        (429, "soon", 0),
        (429, "٣", 0),
        (429, "Wed, 21 Oct 2015 07:28:00 GMT", 0),
        (429, "Wed, 21 Oct 9999 07:28:00 GMT", 86_400),
        (429, "Wed, 41 Oct 2026 07:28:00 GMT", 0),
        (429, "Wed, 21 Oct 2026 07:28:00 +99999999999999999", 0),
        (500, "120", 0),
        (301, "120", 0),
    ],
)
async def test_a_receiver_that_is_busy_says_when_to_come_again(opened: Load, number: int, retry_after: str, seconds: float) -> None:
    assert await asked_s(opened, number, retry_after) == seconds


@pytest.mark.parametrize("zone", ["GMT", "-0000"])
async def test_a_receiver_may_say_the_moment_instead(opened: Load, zone: str) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True).replace("GMT", zone)
    assert 590 < await asked_s(opened, 429, moment) <= 600


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,5} [A-Z][a-z]{2} [0-9]{1,6} [0-9:]{0,9} ?[A-Z0-9+-]{0,9}"))
def test_no_moment_that_cannot_be_read_is_trouble(load_once: None, text: str) -> None:
    assert 0 <= sys.modules["paynow_plugin_sink_webhook"].retry_after_s(text) <= 86_400


async def test_too_large_an_event_is_refused_for_good(opened: Load) -> None:
    async with receiving(status(413)) as receiver, opened(receiver.url) as sink:
        with pytest.raises(DeliveryFailed) as failed:
            await sink.deliver([event(1)])
    (error,) = failed.value.errors.values()
    assert isinstance(error, DeliveryRefused)


async def test_gone_ends_the_delivery_at_once(opened: Load) -> None:
    async with receiving(status(410)) as receiver, opened(receiver.url, in_flight=1) as sink:
        with pytest.raises(SinkGone, match=r"^410$"):
            await sink.deliver([event(1), event(2)])
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("number", [301, 302, 303, 307, 308])
async def test_a_redirect_is_no_delivery_and_is_not_followed(opened: Load, number: int) -> None:
    one = event(1)
    async with receiving() as target, receiving(status(number, Location=target.url)) as receiver, opened(receiver.url) as sink:
        assert await failures(sink, one) == {one["id"]: f"StatusRefused: {number}"}
    assert (target.requests, len(receiver.requests)) == ([], 1)


async def test_of_a_batch_only_those_that_failed_are_told(opened: Load) -> None:
    events = [event(number) for number in range(8)]
    bad = {events[2]["id"], events[5]["id"]}

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=500 if request.headers["webhook-id"] in bad else 200)

    async with receiving(answer) as receiver, opened(receiver.url) as sink:
        assert set(await failures(sink, *events)) == bad
    assert sorted(receiver.ids) == sorted(one["id"] for one in events)


async def test_a_slow_receiver_holds_up_an_attempt_for_its_timeout_only(opened: Load) -> None:
    one = event(1)
    async with receiving(never) as receiver, opened(receiver.url, timeout_ms=100) as sink:
        assert await failures(sink, one) == {one["id"]: "NoAnswer: none within 100 ms"}
        await meanwhile(lambda: receiver.at_once == 0)


async def test_an_answer_counts_whatever_becomes_of_its_body(opened: Load) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Encoding": "gzip"})
        await response.prepare(request)
        await response.write(b"this is no gzip")
        await asyncio.Event().wait()
        return response

    async with receiving(answer) as receiver, opened(receiver.url, timeout_ms=8000) as sink:
        await asyncio.wait_for(sink.deliver([event(1)]), 4)


async def test_what_might_take_longer_than_a_delivery_has_is_not_begun(opened: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [event(number) for number in range(6)]
    async with receiving(never) as receiver, opened(receiver.url, in_flight=2, timeout_ms=200) as sink:
        monkeypatch.setattr(sys.modules[type(sink).__module__], "ENDS_WITHIN_S", 0.35)
        began = time.monotonic()
        told = await failures(sink, *events)
        assert time.monotonic() - began < 2
    assert list(told.values()).count("NotTried: no time was left") == 4
    assert set(told) == {one["id"] for one in events}
    assert len(receiver.requests) == 2


async def test_a_receiver_that_is_not_there_is_told_without_its_address(opened: Load, unused_tcp_port: int) -> None:
    one = event(1)
    async with opened(f"http://127.0.0.1:{unused_tcp_port}/?token=1") as sink:
        assert await failures(sink, one) == {one["id"]: "NoAnswer: ConnectionRefusedError"}


async def test_a_certificate_that_nobody_vouches_for_is_refused(opened: Load, tmp_path: Path) -> None:
    one = event(1)
    async with receiving(ssl=self_signed(tmp_path)) as receiver, opened(receiver.url) as sink:
        assert await failures(sink, one) == {one["id"]: "NoAnswer: SSLCertVerificationError"}
    assert receiver.requests == []


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    pem = folder / "receiver.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


# ---------------------------------------------------------------- where nothing is sent


async def test_a_name_that_leads_into_a_private_network_is_not_connected_to(opened: Load) -> None:
    connections = []
    server = await asyncio.start_server(lambda reader, writer: connections.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    one = event(1)
    async with opened(f"https://localhost:{port}/", allow_private=False) as sink:
        assert await failures(sink, one) == {one["id"]: "NoAnswer: AddressRefused"}
    server.close()
    assert connections == []


async def test_no_proxy_of_the_environment_is_asked(opened: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy, receiving() as receiver, opened(receiver.url) as sink:
        monkeypatch.setenv("http_proxy", proxy.url)
        await sink.deliver([event(1)])
    assert (len(proxy.requests), len(receiver.requests)) == (0, 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "[::ffff:8.8.8.8]", "[64:ff9b::808:808]", "[fd00::1]"])
def test_a_private_address_in_the_url_refuses_the_boot(load: Load, host: str) -> None:
    with pytest.raises(ConfigurationRefused, match=r"events\.webhooks\.shop\.url: the address is not public") as refused:
        load(f"https://{host}/?token=1", allow_private=False)
    assert "token" not in str(refused.value)
    load(f"https://{host}/", allow_private=True)


def test_a_public_address_and_a_name_are_fine(load: Load) -> None:
    for host in ("8.8.8.8", "[2606:4700::1111]", "shop.example"):
        load(f"https://{host}/", allow_private=False)


NOT_PUBLIC = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24"),
    *("192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    *("::/8", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16"),
    *("fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
]
"""IANA's registries of special addresses, and those of groups."""


def public(address: object) -> bool:
    return sys.modules["paynow_plugin_sink_webhook"].is_public(str(address))


@given(st.data())
def test_no_special_address_is_public(load_once: None, data: st.DataObject) -> None:
    network = ip_network(data.draw(st.sampled_from(NOT_PUBLIC)))
    assert not public(network[data.draw(st.integers(0, network.num_addresses - 1))])


@given(st.integers(0, 2**32 - 1))
def test_an_address_within_another_is_never_public(load_once: None, number: int) -> None:
    inside = (0xFFFF << 32 | number, number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80, 0x20010000 << 96 | number)
    assert not any(public(IPv6Address(address)) for address in inside)


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_every_other_address_is_public(load_once: None, address: IPv4Address) -> None:
    special = any(address in ip_network(network) for network in NOT_PUBLIC if "." in network)
    assert public(address) != special


@pytest.fixture(scope="module")
def load_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    from paynow.settings.load import load as load_settings

    loaded(load_settings(None, {}).settings, "https://shop.example/")


# ---------------------------------------------------------------- secrets


def whsec(size: int) -> str:
    return "whsec_" + base64.b64encode(bytes(size)).decode()


@pytest.mark.parametrize(
    "secret", ["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", whsec(23), whsec(65), whsec(32)[:-1], "whsec_****", "whsec_é", f"{SECRET} oops", ","]
)
def test_a_malformed_secret_refuses_the_boot_and_is_not_repeated(load: Load, secret: str) -> None:
    with pytest.raises(ConfigurationRefused, match="WEBHOOK_SECRET: expected") as refused:
        load("https://shop.example/", secret)
    assert all(word not in str(refused.value) for word in secret.split() if len(word) > 3)


def test_without_a_secret_there_is_no_boot(load: Load) -> None:
    with pytest.raises(ConfigurationRefused, match="the webhook shop needs WEBHOOK_SECRET_SHOP or WEBHOOK_SECRET, neither is set"):
        load("https://shop.example/", None)
    for size in (24, 64):
        load("https://shop.example/", whsec(size))


def test_without_a_url_there_is_no_boot(load: Load) -> None:
    with pytest.raises(ConfigurationRefused, match=r"events\.webhooks\.shop\.url is not set"):
        load("")


def test_a_sink_of_a_webhook_that_is_not_there_refuses_the_boot(settings_of: Callable[..., Settings]) -> None:
    with pytest.raises(ConfigurationRefused, match="no enabled plugin registers the event sink `webhook_shpo`; did you mean webhook_shop"):
        load_plugins(configured(settings_of(), "https://shop.example", sinks=("webhook_shop", "webhook_shpo")))
