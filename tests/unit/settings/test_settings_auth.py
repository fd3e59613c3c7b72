"""Tokens are off until they are configured; what would take anybody's tokens, or would be silently off, stops the start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from paynow.app import check
from paynow.errors import ConfigurationRefused
from paynow.limits import Limit
from paynow.settings.load import Loaded

Faults = Callable[..., list[str]]
Load = Callable[..., Loaded]

SET = '[auth.jwt]\njwks_url = "https://identity.example/keys"\nissuer = "https://identity.example/"\naudience = ["paynow"]\n'
ALGORITHMS = "expected a list of one or more of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, Ed25519, each once"
ADDRESS = 'expected an https:// or http:// address without a name, a password or a fragment, or "" for none'
OPEN_LINE = "expected https://: over http:// anybody on the way can put in keys of their own (auth.jwt.allow_http = true allows it)"


def test_without_configuration_no_token_is_taken(loaded: Load) -> None:
    assert loaded().settings.auth.jwt.jwks_url is None


def test_what_is_configured_arrives(loaded: Load) -> None:
    jwt = loaded(SET + 'rate = "90/m"\n[auth.jwt.scopes]\n"paynow clerk" = ["cases:read", "cases:write"]\nnobody = []\n').settings.auth.jwt
    assert (jwt.jwks_url, jwt.issuer, jwt.audience) == ("https://identity.example/keys", "https://identity.example/", ("paynow",))
    assert jwt.scopes == {"paynow clerk": frozenset({"cases:read", "cases:write"}), "nobody": frozenset()}
    assert jwt.rate == Limit(1.5, 2)
    environ = {"PAYNOW_AUTH__JWT__AUDIENCE": "a,b", "PAYNOW_AUTH__JWT__SCOPES": '{ clerk = ["cases:read"] }', "PAYNOW_AUTH__JWT__ALGORITHMS": "ES256"}
    jwt = loaded(SET, environ).settings.auth.jwt
    assert (jwt.audience, jwt.scopes, jwt.algorithms) == (("a", "b"), {"clerk": frozenset({"cases:read"})}, ("ES256",))


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("algorithms", '["none"]', ALGORITHMS),
        ("algorithms", '["RS256", "HS256"]', ALGORITHMS),
        ("algorithms", "[]", ALGORITHMS),
        ("scopes", '{ clerk = ["case:read"] }', "unknown scope; did you mean cases:read?"),
        ("scopes", '{ clerk = "cases:read" }', "expected a list of scopes"),
        ("scopes", "[]", "expected a table of up to 100 names, each with a list of scopes"),
        ("clock_skew_s", "301", "expected a whole number from 0 to 300"),
        ("cache_s", "0", "expected a whole number from 1 to 86400"),
        ("audiense", '["x"]', "unknown key; did you mean audience?"),
    ],
)
def test_a_value_that_cannot_be_is_told_with_its_line(key: str, value: str, fault: str, faults: Faults) -> None:
    below = ".clerk" if "{" in value else ""
    assert faults(SET + f"{key} = {value}") == [f"paynow.toml:5: auth.jwt.{key}{below}: {fault}"]


@pytest.mark.parametrize(
    "url",
    [
        "identity.example",
        "ftp://identity.example/",
        "https://",
        "https:///keys",
        "https://me:secret@identity.example/",
        "https://a:x/",
        "https://a/#b",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_repeated(url: str, faults: Faults) -> None:
    assert faults(SET.replace("https://identity.example/keys", url)) == [f"paynow.toml:2: auth.jwt.jwks_url: {ADDRESS}"]


@pytest.mark.parametrize("host", ["identity.example", "10.0.0.1", "127.0.0.1.example"])
def test_keys_come_over_a_closed_line_only(host: str, faults: Faults, loaded: Load) -> None:
    toml = SET.replace("https://identity.example/keys", f"http://{host}/keys")
    assert faults(toml) == [f"paynow.toml:2: auth.jwt.jwks_url: {OPEN_LINE}"]
    assert loaded(toml + "allow_http = true").settings.auth.jwt.jwks_url == f"http://{host}/keys"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.3.2.1", "[::1]"])
def test_the_way_to_this_machine_needs_no_tls(host: str, loaded: Load) -> None:
    assert loaded(SET.replace("https://identity.example/keys", f"http://{host}:8080/keys"))


def test_whose_tokens_and_for_whom_has_to_be_said(faults: Faults) -> None:
    assert faults('[auth.jwt]\njwks_url = "https://identity.example/keys"') == [
        f"paynow.toml:2: auth.jwt.jwks_url: auth.jwt.{name} has to be set with auth.jwt.jwks_url: anybody else's tokens would be taken"
        for name in ("issuer", "audience")
    ]


def test_what_is_described_but_not_switched_on_is_a_fault(faults: Faults) -> None:
    assert faults('[auth.jwt]\nissuer = "x"') == ["paynow.toml:2: auth.jwt.issuer: has no effect without auth.jwt.jwks_url, which is not set"]


def test_without_joserfc_the_start_says_how_to_install_it(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(SET, {"LOG_HASH_KEY": "the-hash-key-of-the-tests"})
    check(found)
    monkeypatch.setattr("paynow.app.find_spec", lambda name: None if name == "joserfc" else find_spec(name))
    with pytest.raises(ConfigurationRefused) as refused:
        check(found)
    assert [str(fault) for fault in refused.value.faults] == [
        "paynow.toml:2: auth.jwt.jwks_url: tokens are checked by joserfc, which is not installed: pip install 'paynow[jwt]'"
    ]


def test_joserfc_is_imported_by_nobody_who_takes_no_tokens() -> None:
    program = "import sys, paynow.cli, paynow.app; print('paynow.http.keyring' in sys.modules, 'joserfc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert done.stdout.split() == ["True", "False"]
