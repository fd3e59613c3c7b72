"""What the sinks `kafka` and `rabbitmq` refuse at the boot: no broker is asked for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import codec

from paynow.errors import ConfigurationRefused
from paynow.plugin_loader import load_plugins
from paynow.settings import Settings

KAFKA = {"kafka_bootstrap_servers": "one.internal:9092,two.internal:9092"}
SECRET = "user:hunter2"


def refusal(settings: Settings) -> str:
    with pytest.raises(ConfigurationRefused) as refused:
        load_plugins(settings)
    return "\n".join(map(str, refused.value.faults))


@pytest.fixture
def settings_with(settings_of: Callable[..., Settings]) -> Callable[..., Settings]:
    """With one sink, these keys of its table, and these secrets."""

    def make(sink: str, secrets: dict[str, str], **keys: Any) -> Settings:
        settings = settings_of(sinks=(sink,))
        events = replace(settings.events, **{sink: replace(getattr(settings.events, sink), **keys)})
        return replace(settings, events=events, secrets=replace(settings.secrets, **secrets))

    return make


@pytest.mark.parametrize(("sink", "secrets"), [("kafka", KAFKA), ("rabbitmq", {"amqp_url": "amqps://user:password@broker.internal/"})])
def test_a_sink_that_has_all_it_needs_connects_to_nobody_at_the_boot(
    sink: str, secrets: dict[str, str], settings_with: Callable[..., Settings]
) -> None:
    assert list(load_plugins(settings_with(sink, secrets)).sinks) == [sink]


@pytest.mark.parametrize(("sink", "package"), [("kafka", "aiokafka"), ("rabbitmq", "aio_pika")])
def test_a_missing_package_is_told_with_what_installs_it(
    sink: str, package: str, settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert f"pip install 'paynow[{sink}]'" in refusal(settings_with(sink, {}))


@pytest.mark.parametrize(("sink", "name"), [("kafka", "KAFKA_BOOTSTRAP_SERVERS"), ("rabbitmq", "AMQP_URL")])
def test_a_missing_secret_is_told_by_its_name(sink: str, name: str, settings_with: Callable[..., Settings]) -> None:
    assert f"the event sink `{sink}` needs {name}, which is not set" in refusal(settings_with(sink, {}))


@pytest.mark.parametrize(
    ("sink", "secrets"),
    [
        ("kafka", {"kafka_bootstrap_servers": f"kafka://{SECRET}@broker"}),
        ("kafka", {"kafka_bootstrap_servers": "one:9092,,two:9092"}),
        ("rabbitmq", {"amqp_url": f"http://{SECRET}@broker/"}),
        ("rabbitmq", {"amqp_url": f"amqp://{SECRET}@[broker/"}),
        ("rabbitmq", {"amqp_url": "amqp:///vhost"}),
    ],
)
def test_an_address_that_cannot_be_is_told_and_not_repeated(sink: str, secrets: dict[str, str], settings_with: Callable[..., Settings]) -> None:
    told = refusal(settings_with(sink, secrets))
    assert ": expected " in told
    assert "hunter2" not in told


def test_sasl_without_a_name_and_a_password_is_told(settings_with: Callable[..., Settings]) -> None:
    told = refusal(settings_with("kafka", {**KAFKA, "kafka_username": "paynow"}, security_protocol="SASL_SSL"))
    assert "events.kafka.security_protocol is SASL_SSL, but KAFKA_USERNAME or KAFKA_PASSWORD is not set" in told


def test_certificates_that_cannot_be_read_are_told(settings_with: Callable[..., Settings], tmp_path: Any) -> None:
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("no certificate")
    assert "sink_kafka" in refusal(settings_with("kafka", KAFKA, security_protocol="SSL", ca_file=nonsense))


def test_a_compression_that_is_not_installed_is_told(settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "cramjam", None)
    assert "pip install 'aiokafka[all]'" in refusal(settings_with("kafka", KAFKA, compression="zstd"))
