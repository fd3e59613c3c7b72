"""Secrets come from the environment or `.env` only, and are never shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paynow.errors import ConfigurationRefused
from paynow.settings.load import Loaded, load
from paynow.settings.secret import SECRETS

Load = Callable[..., Loaded]
Origin = Callable[..., tuple[str, str]]
Faults = Callable[..., list[str]]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_taken_from_the_environment_and_shown_as_set(name: str, loaded: Load, origin_of: Origin) -> None:
    environ = {"DATABASE_URL": "x", name: "canary"}  # the way past a pooler is no way without the one through it
    assert getattr(loaded(environ=environ).settings.secrets, name.lower()) == "canary"
    assert origin_of(name, environ=environ) == ("set", f"environment {name}")
    assert "canary" not in repr(loaded(environ=environ))


def test_a_secret_that_is_not_set_says_so(origin_of: Origin) -> None:
    assert origin_of("API_KEY") == ("not set", "nowhere")
    assert origin_of("API_KEY", environ={"API_KEY": ""}) == ("not set", "nowhere")


def test_dotenv_supplies_what_the_environment_lacks(loaded: Load, origin_of: Origin) -> None:
    dotenv = "API_KEY=from_file\nWEBHOOK_SECRET=hook\n"
    secrets = loaded(environ={"API_KEY": "from_environment"}, dotenv=dotenv).settings.secrets
    assert (secrets.api_key, secrets.webhook_secret) == ("from_environment", "hook")
    assert origin_of("WEBHOOK_SECRET", dotenv=dotenv) == ("set", ".env:2")


def test_a_secret_may_lie_in_a_file(loaded: Load, origin_of: Origin, here: Path) -> None:
    (here / "key").write_text("canary\r\n", encoding="utf-8")
    environ = {"API_KEY_FILE": str(here / "key")}
    assert loaded(environ=environ).settings.secrets.api_key == "canary"
    assert origin_of("API_KEY", environ=environ) == ("set", "environment API_KEY_FILE")


def test_a_secrets_file_in_the_environment_outweighs_the_secret_in_dotenv(loaded: Load, here: Path) -> None:
    (here / "key").write_text("of_file", encoding="utf-8")
    assert loaded(environ={"API_KEY_FILE": "key"}, dotenv="API_KEY=of_dotenv").settings.secrets.api_key == "of_file"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected one line of text without spaces or line breaks around it"),
        (b"\n", "expected one line of text without spaces or line breaks around it"),
        (b"a\nb", "expected one line of text without spaces or line breaks around it"),
        (b" a", "expected one line of text without spaces or line breaks around it"),
        (b"\xe9", "the file that it names is not UTF-8 text"),
        (b"a" * 65_537, "the file that it names is larger than 65536 bytes"),
        (None, "the file that it names cannot be read: No such file or directory"),
    ],
)
def test_a_secrets_file_that_is_of_no_use_is_a_fault(content: bytes | None, message: str, faults: Faults, here: Path) -> None:
    if content is not None:
        (here / "key").write_bytes(content)
    assert faults(environ={"API_KEY_FILE": "key"}) == [f"environment API_KEY_FILE: API_KEY: {message}"]


def test_a_secret_with_a_line_break_is_a_fault(faults: Faults) -> None:
    message = "environment API_KEY: API_KEY: expected one line of text without spaces or line breaks around it"
    assert faults(environ={"API_KEY": "canary\n"}) == [message]


def test_a_secret_twice_in_one_place_is_a_fault(faults: Faults) -> None:
    environ = {"API_KEY": "a", "API_KEY_FILE": "b"}
    assert faults(environ=environ) == ["environment API_KEY: API_KEY: expected API_KEY or API_KEY_FILE, not both"]


@pytest.mark.parametrize(
    ("toml", "key", "name", "line"),
    [
        ("API_KEY = 'canary'", "API_KEY", "API_KEY", 1),
        ("api_key = 'canary'", "api_key", "API_KEY", 1),
        ("[server]\nAPI_KEY = 'canary'", "server.API_KEY", "API_KEY", 2),
        ("[secrets]\nwebhook_secret = 'canary'", "secrets.webhook_secret", "WEBHOOK_SECRET", 2),
        ("[database]\nurl = 'canary'", "database.url", "DATABASE_URL", 2),
        ("[logging]\nlog_hash_key = 'canary'", "logging.log_hash_key", "LOG_HASH_KEY", 2),
        ("[database]\nurl_file = 'canary'", "database.url_file", "DATABASE_URL", 2),
    ],
)
def test_a_secret_in_a_file_of_settings_is_refused(toml: str, key: str, name: str, line: int, faults: Faults) -> None:
    message = f"{name} is a secret: set {name} or {name}_FILE in the environment or in .env, never among the settings"
    assert faults(toml) == [f"paynow.toml:{line}: {key}: {message}"]


def test_a_secret_among_the_settings_of_the_environment_is_refused(faults: Faults) -> None:
    (fault,) = faults(environ={"PAYNOW_DATABASE__URL": "canary"})
    assert fault.startswith("environment PAYNOW_DATABASE__URL: database.url: DATABASE_URL is a secret: set DATABASE_URL")


def test_what_a_plugin_calls_its_settings_is_its_own_affair(loaded: Load) -> None:
    toml = "[plugins]\nenabled = ['mine']\n[plugins.settings.mine]\napi_key = 'a'"
    assert loaded(toml).settings.plugins.settings["mine"] == {"api_key": "a"}


def test_a_webhook_has_a_secret_of_its_own_that_is_shown_as_set_only(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("whsec_of_the_shop\n")
    config = tmp_path / "paynow.toml"
    config.write_text('[events.webhooks.shop]\nurl = "https://shop.example/"\n[events]\nsinks = ["webhook_shop"]\n')
    loaded = load(config, {"WEBHOOK_SECRET_SHOP_FILE": str(tmp_path / "shop"), "WEBHOOK_SECRET": "whsec_of_all"})
    assert loaded.settings.secrets.webhook_secrets == {"shop": "whsec_of_the_shop"}
    assert loaded.settings.secrets.webhook_secret == "whsec_of_all"
    (shown,) = [value for value in loaded.values if value.key == "WEBHOOK_SECRET_SHOP"]
    assert shown.shown == "set"
    assert "of_the_shop" not in repr(loaded)


def test_a_secret_of_no_webhook_stops_the_boot(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused, match="there is no webhook shpo"):
        load(None, {"WEBHOOK_SECRET_SHPO": "whsec_1"})


def test_a_webhooks_secret_does_not_belong_into_a_file_of_settings(tmp_path: Path) -> None:
    config = tmp_path / "paynow.toml"
    config.write_text('[events]\nwebhook_secret_shop = "whsec_1"\n')
    with pytest.raises(ConfigurationRefused, match="WEBHOOK_SECRET_SHOP is a secret") as refused:
        load(config, {})
    assert "whsec_1" not in str(refused.value)
