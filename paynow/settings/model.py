"""What can be configured, as values that travel: frozen, typed, units last in the names.

Limits stand in `schema.py`, meanings beside the defaults in `config/default.toml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paynow.limits import Limit


@dataclass(frozen=True, slots=True)
class ServerSettings:
    host: str
    port: int
    request_max_bytes: int
    in_flight_max: int
    drain_s: float
    shutdown_grace_s: float
    workers: int


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """Whose tokens are taken, and what they may be. `scopes` is what a value of the claim `scope_claim` stands for; empty: for itself."""

    jwks_url: str | None
    """None: no token is taken (`jwks_url = ""`)."""
    allow_http: bool
    issuer: str
    audience: tuple[str, ...]
    algorithms: tuple[str, ...]
    token_type: str
    """Empty: any."""
    clock_skew_s: int
    scope_claim: str
    scopes: Mapping[str, frozenset[str]]
    rate: Limit | None
    """Of each subject. None: subjects are not limited (`rate = "off"`)."""
    cache_s: int
    stale_s: int
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class AuthSettings:
    jwt: JwtSettings


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    connections_max: int
    lanes: int
    batch_max: int
    connect_timeout_ms: int
    acquire_timeout_ms: int
    statement_timeout_ms: int
    pooler: str
    """What `DATABASE_URL` leads to: `none`, or a pooler that gives a server's connection for a `transaction` at a time."""
    embedded_dir: Path


@dataclass(frozen=True, slots=True)
class PluginSettings:
    dirs: tuple[Path, ...]
    enabled: tuple[str, ...]
    settings: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """`on_failure` is the floor of the verdict when the tool gives no answer: `block`, `review` or `ignore`."""

    attempts: int
    timeout_ms: int
    backoff_ms: int
    on_failure: str


@dataclass(frozen=True, slots=True)
class AgentSettings:
    plan: tuple[str, ...]
    on_review: tuple[str, ...]
    deadline_ms: int
    loop_hold_max_ms: int
    breaker_failures_share: float
    breaker_calls_min: int
    breaker_window_s: float
    breaker_open_s: float
    tools: Mapping[str, ToolSettings]
    """Every tool of the plan has an entry; what the file leaves out has its default."""


@dataclass(frozen=True, slots=True)
class IdempotencySettings:
    lease_s: float
    wait_ms: int
    retention_h: float
    """0: as long as the payment."""


@dataclass(frozen=True, slots=True)
class ReservationSettings:
    ttl_s: float


@dataclass(frozen=True, slots=True)
class CaseSettings:
    """`due_h` by priority, the last for all that is more urgent; `amount_bands` are currencies with minor units."""

    due_h: tuple[float, ...]
    amount_bands: tuple[tuple[str, int], ...]
    score_bands: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RateLimitSettings:
    backend: str
    customer: Limit | None
    """None: customers are not limited (`customer = "off"`)."""
    on_store_failure: str
    redis_timeout_ms: int


@dataclass(frozen=True, slots=True)
class PolicySettings:
    file: Path
    approval: str
    """`none`, or `required`: what one API key proposes another has to approve."""
    shadow: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class PolicyGuardSettings:
    """Shares are parts of 1, the smallest and the largest that are meant."""

    window_s: float | None
    """None: nobody looks (`window = "off"`)."""
    review_band: tuple[float, float]
    block_band: tuple[float, float]
    decisions_min: int
    roll_back: bool
    roll_back_within_s: float


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """`compression` is `none` or one of Kafka's; the last two are for a topic that is created."""

    topic: str
    client_id: str
    security_protocol: str
    ca_file: Path | None
    """None: whom the system trusts."""
    certificate_file: Path | None
    key_file: Path | None
    sasl_mechanism: str
    compression: str
    request_timeout_ms: int
    create_topic: bool
    partitions: int
    replication_factor: int


@dataclass(frozen=True, slots=True)
class RabbitmqSettings:
    """`exchange_type` is `topic` or `x-consistent-hash`, `queue_type` is `classic` or `quorum`."""

    exchange: str
    exchange_type: str
    queues: tuple[str, ...]
    binding: str
    queue_type: str
    single_active_consumer: bool
    dead_letter_exchange: str
    dead_letter_queue: str
    declare: bool
    connect_timeout_ms: int


@dataclass(frozen=True, slots=True)
class RedisStreamSettings:
    """`length_max` is about how many events the stream holds."""

    stream: str
    length_max: int
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """`types` are event types, or with a `*` at their end what they begin with."""

    url: str
    """Empty if nobody has set it, which the sink refuses."""
    types: tuple[str, ...]
    timeout_ms: int
    in_flight: int
    allow_private: bool


@dataclass(frozen=True, slots=True)
class EventSettings:
    sinks: tuple[str, ...]
    memory_last: int
    poll_ms: int
    relay: bool
    keep_s: float
    kafka: KafkaSettings
    rabbitmq: RabbitmqSettings
    redis_streams: RedisStreamSettings
    webhooks: Mapping[str, WebhookSettings]
    """By their names; each is a sink `webhook_NAME`."""


@dataclass(frozen=True, slots=True)
class LoggingSettings:
    level: str
    format: str
    plugin_fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """`endpoint` and `service_name` are empty where the variables of OpenTelemetry are to say them."""

    traces: str
    endpoint: str
    service_name: str
    sample_ratio: float
    follow_traceparent: bool


@dataclass(frozen=True, slots=True)
class Secrets:
    """From the environment or `.env` only. None of them is ever shown: `repr` leaves them out."""

    api_key: str | None = field(default=None, repr=False)
    database_url: str | None = field(default=None, repr=False)
    database_direct_url: str | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)
    amqp_url: str | None = field(default=None, repr=False)
    kafka_bootstrap_servers: str | None = field(default=None, repr=False)
    kafka_username: str | None = field(default=None, repr=False)
    kafka_password: str | None = field(default=None, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    webhook_secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Those of webhooks that have their own, by the webhooks' names."""
    log_hash_key: str | None = field(default=None, repr=False)
    otel_exporter_otlp_headers: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration of one process."""

    server: ServerSettings
    auth: AuthSettings
    database: DatabaseSettings
    plugins: PluginSettings
    agent: AgentSettings
    idempotency: IdempotencySettings
    reservations: ReservationSettings
    cases: CaseSettings
    rate_limit: RateLimitSettings
    policy: PolicySettings
    policy_guard: PolicyGuardSettings
    events: EventSettings
    logging: LoggingSettings
    telemetry: TelemetrySettings
    secrets: Secrets
