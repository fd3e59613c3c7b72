"""Every key there is, with the values that it may hold. What a key means stands beside it in `config/default.toml` and in the documentation.

A schema is loaded once for each source, so that every fault can name its line or variable; what holds across keys is in `rules.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validates_schema

from paynow.settings.fields import (
    Amounts,
    Choices,
    Duration,
    DurationOrOff,
    EventTypes,
    FileOrNone,
    FilePath,
    Files,
    Folders,
    Key,
    Names,
    Number,
    Numbers,
    Rate,
    ScopesOf,
    ShareBand,
    Switch,
    Tables,
    Text,
    Texts,
    ToolNames,
    WebAddress,
    Whole,
    Wholes,
    Word,
)
from paynow.settings.notation import did_you_mean

TOOL_DEFAULTS: dict[str, Any] = {"attempts": 3, "timeout_ms": 400, "backoff_ms": 20, "on_failure": "review"}
"""What a tool of the plan has that its table leaves out, or that has no table: strict enough to be safe, and never `ignore`."""

AMQP_NAME = r"(?!amq\.)[A-Za-z0-9._-]{1,255}"
AMQP_NAME_EXPECTED = "up to 255 letters, digits, dots, underscores and hyphens that do not begin with amq."

WEBHOOK_DEFAULTS: dict[str, Any] = {"url": "", "types": ["*"], "timeout_ms": 3000, "in_flight": 10, "allow_private": False}
"""What a webhook has that its table leaves out; the URL it must not leave out."""

URL = r"https?://(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?(?:[/?][!-\"$-~]*)?"
NAMED_TABLES = (("agent", "tools"), ("events", "webhooks"))
"""Tables of tables of which each inner one has a name of its own."""


class Section(Schema):
    """A table of the configuration. What it does not know it refuses, with the nearest name that it does."""

    noun: ClassVar[str] = "key"
    error_messages = {"type": "expected a table"}

    class Meta:
        unknown = EXCLUDE  # refused below, in our own words

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def refuse_unknown(self, _data: Any, original: Any, **_: Any) -> None:
        if not isinstance(original, dict):
            return
        unknown = {name: [f"unknown {self.noun}; {did_you_mean(name, self.fields)}"] for name in original if name not in self.fields}
        if unknown:
            raise ValidationError(unknown)


class ServerSection(Section):
    host = Text("a host name or an IP address", r"[A-Za-z0-9_.:%-]{1,255}")
    port = Whole(0, 65_535)
    request_max_bytes = Whole(1024, 1_048_576)
    in_flight_max = Whole(1, 10_000)
    drain_s = Number(0, 600)
    shutdown_grace_s = Number(0, 600)
    workers = Whole(1, 256)


class JwtSection(Section):
    jwks_url = WebAddress()
    allow_http = Switch()
    issuer = Text('up to 255 characters without spaces, or "" for none', r"[\x21-\x7e]{0,255}")
    audience = Texts()
    algorithms = Choices("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
    token_type = Text('a token\'s `typ` like "at+jwt", or "" for any', r"[A-Za-z0-9!#$&^_.+-]{0,64}")
    clock_skew_s = Whole(0, 300)
    scope_claim = Text("a claim's name", r"[\x21-\x7e]{1,255}")
    scopes = ScopesOf()
    rate = Rate()
    cache_s = Whole(1, 86_400)
    stale_s = Whole(0, 604_800)
    timeout_ms = Whole(100, 30_000)


class AuthSection(Section):
    jwt = fields.Nested(JwtSection)


class DatabaseSection(Section):
    connections_max = Whole(1, 1000)
    lanes = Whole(1, 100)
    batch_max = Whole(1, 1000)
    connect_timeout_ms = Whole(50, 60_000)
    acquire_timeout_ms = Whole(10, 60_000)
    statement_timeout_ms = Whole(50, 60_000)
    pooler = Word("none", "transaction")
    embedded_dir = FilePath("a path of a folder, which is made if it is missing")


class PluginsSection(Section):
    dirs = Folders("a list of folders that exist, each once")
    enabled = Names()
    settings = Tables(None)


class ToolSection(Section):
    attempts = Whole(1, 10)
    timeout_ms = Whole(1, 60_000)
    backoff_ms = Whole(0, 10_000)
    on_failure = Word("block", "review", "ignore")


class AgentSection(Section):
    plan = ToolNames()
    on_review = ToolNames()
    deadline_ms = Whole(50, 60_000)
    loop_hold_max_ms = Whole(10, 60_000)
    breaker_failures_share = Number(0.01, 1)
    breaker_calls_min = Whole(1, 10_000)
    breaker_window_s = Number(1, 3600)
    breaker_open_s = Number(0.1, 3600)
    tools = Tables(ToolSection())


class IdempotencySection(Section):
    lease_s = Number(1, 600)
    wait_ms = Whole(0, 60_000)
    retention_h = Number(0, 876_000)


class ReservationsSection(Section):
    ttl = Duration("1s", "3650d")


class CasesSection(Section):
    due_h = Numbers(0.01, 8760)
    amount_bands = Amounts()
    score_bands = Wholes(-1_000_000, 1_000_000)


class RateLimitSection(Section):
    backend = Text("a name", Names.pattern.pattern)
    customer = Rate()
    burst = Whole(1, 1_000_000)
    on_store_failure = Word("deny", "local")
    redis_timeout_ms = Whole(5, 200)


class PolicySection(Section):
    file = FilePath("a path of a file that exists")
    shadow = Files("a list of up to 4 policy files that exist, each once", 4)
    approval = Word("none", "required")


class PolicyGuardSection(Section):
    window = DurationOrOff("10s", "1d")
    review_band = ShareBand()
    block_band = ShareBand()
    decisions_min = Whole(1, 1_000_000_000)
    roll_back = Switch()
    roll_back_within = Duration("1s", "30d")


class KafkaSection(Section):
    topic = Text("a topic's name: up to 249 letters, digits, dots, underscores and hyphens", r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
    client_id = Text("up to 100 letters, digits, dots, underscores and hyphens", r"[A-Za-z0-9._-]{1,100}")
    security_protocol = Word("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
    ca_file = FileOrNone()
    certificate_file = FileOrNone()
    key_file = FileOrNone()
    sasl_mechanism = Word("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
    compression = Word("none", "gzip", "snappy", "lz4", "zstd")
    request_timeout_ms = Whole(100, 60_000)
    create_topic = Switch()
    partitions = Whole(1, 10_000)
    replication_factor = Whole(1, 100)


class RabbitmqSection(Section):
    exchange = Text(AMQP_NAME_EXPECTED, AMQP_NAME)
    exchange_type = Word("topic", "x-consistent-hash")
    queues = Names()
    binding = Text("words of event types with dots between them, * for any word and # for any words", r"[a-z0-9_.*#]{1,255}")
    queue_type = Word("classic", "quorum")
    single_active_consumer = Switch()
    dead_letter_exchange = Text(AMQP_NAME_EXPECTED, AMQP_NAME)
    dead_letter_queue = Text(AMQP_NAME_EXPECTED, AMQP_NAME)
    declare = Switch()
    connect_timeout_ms = Whole(100, 60_000)


class RedisStreamsSection(Section):
    stream = Text("a key's name: up to 200 letters, digits and . _ : { } -", r"[A-Za-z0-9._:{}-]{1,200}")
    length_max = Whole(1000, 1_000_000_000)
    timeout_ms = Whole(100, 4000)


class WebhookSection(Section):
    url = Text("a URL that begins with https:// (or http://), without user, password and fragment", URL)
    types = EventTypes()
    timeout_ms = Whole(100, 8000)
    in_flight = Whole(1, 100)
    allow_private = Switch()


class EventsSection(Section):
    sinks = Names()
    memory_last = Whole(1, 100_000)
    poll_ms = Whole(10, 60_000)
    relay = Switch()
    keep = Duration("10m", "3650d")
    kafka = fields.Nested(KafkaSection)
    rabbitmq = fields.Nested(RabbitmqSection)
    redis_streams = fields.Nested(RedisStreamsSection)
    webhooks = Tables(WebhookSection())


class LoggingSection(Section):
    level = Word("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    format = Word("json", "console")
    plugin_fields = Names()


class TelemetrySection(Section):
    traces = Word("off", "otlp")
    endpoint = Text("an address like http://collector:4318 without a password, or nothing", r"(?:https?://[A-Za-z0-9_.:%\[\]/-]{1,255})?")
    service_name = Text("a name, or nothing", r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,99})?")
    sample_ratio = Number(0, 1)
    follow_traceparent = Switch()


class SettingsSchema(Section):
    noun: ClassVar[str] = "section"

    server = fields.Nested(ServerSection)
    auth = fields.Nested(AuthSection)
    database = fields.Nested(DatabaseSection)
    plugins = fields.Nested(PluginsSection)
    agent = fields.Nested(AgentSection)
    idempotency = fields.Nested(IdempotencySection)
    reservations = fields.Nested(ReservationsSection)
    cases = fields.Nested(CasesSection)
    rate_limit = fields.Nested(RateLimitSection)
    policy = fields.Nested(PolicySection)
    policy_guard = fields.Nested(PolicyGuardSection)
    events = fields.Nested(EventsSection)
    logging = fields.Nested(LoggingSection)
    telemetry = fields.Nested(TelemetrySection)


SCHEMA = SettingsSchema()


def keys() -> Iterator[tuple[tuple[str, ...], Key]]:
    """Every key with its path, in the order of the sections; a name that is free is `*`: `agent.tools.*.attempts`."""
    for section, nested in SCHEMA.fields.items():
        for name, found in nested.schema.fields.items():  # type: ignore[attr-defined]
            if isinstance(found, Key):
                yield (section, name), found
            elif isinstance(found, fields.Nested):
                yield from (((section, name, inner), key) for inner, key in found.schema.fields.items())  # type: ignore[attr-defined]
            elif isinstance(found, Tables) and found.schema is not None:
                yield from (((section, name, "*", key), field) for key, field in found.schema.fields.items() if isinstance(field, Key))


def key_at(path: tuple[str, ...]) -> Key | None:
    """The key at a path; `None` if there is none, or if a plugin alone knows it."""
    generic = (*path[:2], "*", *path[3:]) if path[:2] in NAMED_TABLES else path
    return dict(keys()).get(generic)
