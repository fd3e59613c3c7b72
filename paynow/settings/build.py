"""Valid keys become the frozen values that travel, and the lines that `config show` prints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from types import MappingProxyType
from typing import Any

from paynow.limits import Limit
from paynow.settings.entries import Entries, Entry
from paynow.settings.layers import KeyPath
from paynow.settings.model import (
    AgentSettings,
    AuthSettings,
    CaseSettings,
    DatabaseSettings,
    EventSettings,
    IdempotencySettings,
    JwtSettings,
    KafkaSettings,
    LoggingSettings,
    PluginSettings,
    PolicyGuardSettings,
    PolicySettings,
    RabbitmqSettings,
    RateLimitSettings,
    RedisStreamSettings,
    ReservationSettings,
    Secrets,
    ServerSettings,
    Settings,
    TelemetrySettings,
    ToolSettings,
    WebhookSettings,
)
from paynow.settings.schema import SCHEMA
from paynow.settings.secret import SECRETS

MASKED = re.compile(r"key|secret|token|passw|credential|auth|dsn", re.IGNORECASE)
"""A plugin's own settings with such a name are shown as set only: to hide too much can be undone, to show a secret cannot."""


@dataclass(frozen=True, slots=True)
class Value:
    """One key as `config show` prints it: `agent.deadline_ms`, its value, and where it was set. Secrets are `set` or `not set`."""

    key: str
    shown: str
    origin: str


def build(entries: Entries, secrets: Secrets) -> Settings:
    """The settings. Every key has to be there and valid."""

    def section(*table: str) -> dict[str, Any]:
        return {path[-1]: entry.value for path, entry in entries.by_path.items() if path[:-1] == table}

    plugins, limit, guard, events = section("plugins"), section("rate_limit"), section("policy_guard"), section("events")
    per_second, burst = limit.pop("customer"), limit.pop("burst")
    window_s, roll_back_within_s = guard.pop("window"), guard.pop("roll_back_within")
    keep_s = events.pop("keep")
    jwt = section("auth", "jwt")
    subject_per_s = jwt.pop("rate")
    return Settings(
        server=ServerSettings(**section("server")),
        auth=AuthSettings(jwt=JwtSettings(**jwt, rate=Limit(subject_per_s, ceil(subject_per_s)) if subject_per_s else None)),
        database=DatabaseSettings(**section("database")),
        plugins=PluginSettings(
            dirs=tuple(folder for folder in plugins["dirs"] if folder.is_dir()),
            enabled=plugins["enabled"],
            settings=_tables(entries, "plugins", "settings"),
        ),
        agent=AgentSettings(
            **section("agent"),
            tools=MappingProxyType({name: ToolSettings(**keys) for name, keys in _tables(entries, "agent", "tools").items()}),
        ),
        idempotency=IdempotencySettings(**section("idempotency")),
        reservations=ReservationSettings(ttl_s=section("reservations")["ttl"]),
        cases=CaseSettings(**section("cases")),
        rate_limit=RateLimitSettings(**limit, customer=None if per_second is None else Limit(per_second, burst)),
        policy=PolicySettings(**section("policy")),
        policy_guard=PolicyGuardSettings(**guard, window_s=window_s, roll_back_within_s=roll_back_within_s),
        events=EventSettings(
            **events,
            keep_s=keep_s,
            kafka=KafkaSettings(**section("events", "kafka")),
            rabbitmq=RabbitmqSettings(**section("events", "rabbitmq")),
            redis_streams=RedisStreamSettings(**section("events", "redis_streams")),
            webhooks=MappingProxyType({name: WebhookSettings(**keys) for name, keys in _tables(entries, "events", "webhooks").items()}),
        ),
        logging=LoggingSettings(**section("logging")),
        telemetry=TelemetrySettings(**section("telemetry")),
        secrets=secrets,
    )


def _tables(entries: Entries, *table: str) -> Mapping[str, Mapping[str, Any]]:
    tables = entries.under(*table)
    return MappingProxyType({name: MappingProxyType({key: entry.value for key, entry in keys.items()}) for name, keys in tables.items()})


def shown(entries: Entries, secret_origins: Mapping[str, str]) -> Iterator[Value]:
    """Every key in the order of the sections, then every secret."""
    for path, entry in sorted(entries.by_path.items(), key=lambda item: _place(item[0])):
        yield Value(".".join(path), _text(path, entry), entry.origin)
    for name in SECRETS:
        yield Value(name, "set" if name in secret_origins else "not set", secret_origins.get(name, "nowhere"))
    for name in sorted(secret_origins.keys() - set(SECRETS)):
        yield Value(name, "set", secret_origins[name])


def _place(path: KeyPath) -> tuple[Any, ...]:
    """Sections in the schema's order, the plain keys of one first, tables after them by name."""
    return list(SCHEMA.fields).index(path[0]), len(path), path[1:3] if len(path) > 2 else ()


def _text(path: KeyPath, entry: Entry) -> str:
    if path[:2] == ("plugins", "settings") and MASKED.search(path[3]):
        return "set"
    if path[:2] == ("events", "webhooks") and path[3] == "url":
        return re.sub(r"\?.+", "?(set)", entry.value)
    if isinstance(entry.value, Path):
        return str(entry.value)
    if path in (("plugins", "dirs"), ("policy", "shadow")):
        return json.dumps([str(one) for one in entry.value], ensure_ascii=False)
    return entry.written if isinstance(entry.written, str) else json.dumps(entry.written, ensure_ascii=False, default=str)
