"""The tables `[events.webhooks.NAME]`: what they hold without saying so, and what of them is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from paynow.settings import WebhookSettings
from paynow.settings.load import Loaded

SINKS = "[events]\nsinks = ['webhook_shop']\n"
SHOP = SINKS + "[events.webhooks.shop]\n"
URL_EXPECTED = "a URL that begins with https:// (or http://), without user, password and fragment"
TYPES_EXPECTED = "a list of one or more types of events, each once; with * at its end one stands for all that begin so"


def test_what_a_webhook_does_not_say_has_its_default(loaded: Callable[..., Loaded]) -> None:
    settings = loaded(f"{SHOP}url = 'https://shop.example/hook'").settings
    assert settings.events.webhooks == {
        "shop": WebhookSettings(url="https://shop.example/hook", types=("*",), timeout_ms=3000, in_flight=10, allow_private=False)
    }
    assert loaded().settings.events.webhooks == {}


def test_a_webhook_comes_from_the_environment_too(loaded: Callable[..., Loaded]) -> None:
    prefix = "PAYNOW_EVENTS__WEBHOOKS__SHOP__"
    environ = {f"{prefix}URL": "https://shop.example", f"{prefix}TYPES": "paynow.payment.*,paynow.case.resolved", f"{prefix}IN_FLIGHT": "3"}
    webhook = loaded(None, {"PAYNOW_EVENTS__SINKS": "memory,webhook_shop", **environ}).settings.events.webhooks["shop"]
    assert (webhook.url, webhook.types, webhook.in_flight) == ("https://shop.example", ("paynow.payment.*", "paynow.case.resolved"), 3)


def test_what_may_be_a_token_of_the_receiver_is_not_shown(origin_of: Callable[..., tuple[str, str]]) -> None:
    shown = origin_of("events.webhooks.shop.url", f"{SHOP}url = 'https://shop.example/hook?token=hidden'")
    assert shown == ("https://shop.example/hook?(set)", "paynow.toml:4")


@pytest.mark.parametrize(
    ("toml", "fault"),
    [
        (f"{SHOP}ulr = 'https://a'", "paynow.toml:4: events.webhooks.shop.ulr: unknown key; did you mean url?"),
        ("[events]\nwebhooks = 5", "paynow.toml:2: events.webhooks: expected a table"),
        *(
            (f"{SHOP}url = {url!r}", f"paynow.toml:4: events.webhooks.shop.url: expected {URL_EXPECTED}")
            for url in (
                "",
                "shop.example",
                "ftp://shop.example",
                "https://",
                "https://user:pass@shop.example",
                "https://a@[::1]/",
                "https://a/#b",
                "https://a/ b",
            )
        ),
        (
            f"{SHOP}url = 'http://shop.example'",
            "paynow.toml:4: events.webhooks.shop.url: expected https, or events.webhooks.shop.allow_private = true "
            "for a receiver within a network of your own",
        ),
        (f"{SHOP}url = 'https://a'\ntypes = []", f"paynow.toml:5: events.webhooks.shop.types: expected {TYPES_EXPECTED}"),
        (f"{SHOP}url = 'https://a'\ntypes = ['*.decided']", f"paynow.toml:5: events.webhooks.shop.types: expected {TYPES_EXPECTED}"),
        (f"{SHOP}url = 'https://a'\ntimeout_ms = 8001", "paynow.toml:5: events.webhooks.shop.timeout_ms: expected a whole number from 100 to 8000"),
        (
            "[events.webhooks.shop]\nurl = 'https://a'",
            "paynow.toml:2: events.webhooks.shop: the webhook gets no events; name webhook_shop in events.sinks",
        ),
        (
            "[events.webhooks.Shop]\nurl = 'https://a'",
            "paynow.toml:2: events.webhooks.Shop: a webhook's name is 1 to 50 small letters, digits and _",
        ),
    ],
)
def test_a_webhook_that_cannot_be_is_told_with_its_line(toml: str, fault: str, faults: Callable[..., list[str]]) -> None:
    assert faults(toml) == [fault]
