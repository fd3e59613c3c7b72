"""What has to hold across keys. Each rule judges only keys that are valid on their own, and yields its faults."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from paynow.errors import ConfigurationFault
from paynow.settings.entries import Entries
from paynow.settings.model import Secrets
from paynow.settings.notation import did_you_mean
from paynow.settings.secret import OF_WEBHOOK

Faults = Iterator[ConfigurationFault]


def broken_rules(entries: Entries) -> Faults:
    """Every fault that two or more keys, or a key and the disk, have together."""
    for rule in RULES:
        yield from rule(entries)


def lease_outlives_the_settle(entries: Entries) -> Faults:
    """A claim must not be taken over while its owner may still settle: the fence would hold, but the work would be lost."""
    lease_s, deadline_ms, settle_ms = (entries.get(key) for key in ("idempotency.lease_s", "agent.deadline_ms", "database.statement_timeout_ms"))
    if None in (lease_s, deadline_ms, settle_ms) or lease_s * 1000 > deadline_ms + settle_ms:
        return
    message = (
        f"idempotency.lease_s ({lease_s:g} s) must be longer than agent.deadline_ms ({deadline_ms} ms) and "
        f"database.statement_timeout_ms ({settle_ms} ms, the settle's time limit) together: more than {(deadline_ms + settle_ms) / 1000:g} s"
    )
    yield entries.fault(message, ("idempotency", "lease_s"), ("agent", "deadline_ms"), ("database", "statement_timeout_ms"))


def attempts_fit_the_deadline(entries: Entries) -> Faults:
    deadline_ms = entries.get("agent.deadline_ms")
    for tool, keys in entries.under("agent", "tools").items():
        timeout = keys.get("timeout_ms")
        if timeout and deadline_ms and timeout.value > deadline_ms:
            message = f"agent.tools.{tool}.timeout_ms ({timeout.value} ms) must not be longer than agent.deadline_ms ({deadline_ms} ms)"
            yield entries.fault(message, ("agent", "tools", tool, "timeout_ms"), ("agent", "deadline_ms"))


def plans_are_disjoint(entries: Entries) -> Faults:
    both = set(entries.get("agent.plan") or ()) & set(entries.get("agent.on_review") or ())
    if both:
        message = f"a tool is either in agent.plan or in agent.on_review; in both: {', '.join(sorted(both))}"
        yield entries.fault(message, ("agent", "on_review"), ("agent", "plan"))


def tools_are_planned(entries: Entries) -> Faults:
    plan, on_review = entries.get("agent.plan"), entries.get("agent.on_review")
    if plan is None or on_review is None:
        return
    for tool, keys in entries.under("agent", "tools").items():
        if tool not in (*plan, *on_review):
            first = next(iter(keys.values()))
            yield ConfigurationFault(first.origin, f"agent.tools.{tool}", f"the tool is in no plan; {did_you_mean(tool, (*plan, *on_review))}")


def limits_hold_over_workers(entries: Entries) -> Faults:
    workers = entries.get("server.workers")
    if entries.get("rate_limit.backend") == "memory" and workers is not None and workers > 1:
        message = f'rate_limit.backend = "memory" with server.workers = {workers}: memory holds for one process only'
        yield entries.fault(message, ("rate_limit", "backend"), ("server", "workers"))


def named_paths_exist(entries: Entries) -> Faults:
    """What a user names has to be there. Of what ships, `plugins` beside the caller may be missing, and the policy is the installation's affair."""
    dirs, file = entries.by_path.get(("plugins", "dirs")), entries.by_path.get(("policy", "file"))
    for folder in dirs.value if dirs and dirs.rank > 0 else ():
        if not folder.is_dir():
            yield ConfigurationFault(dirs.origin, "plugins.dirs", f"there is no folder {folder}")
    if file and file.rank > 0 and not file.value.is_file():
        yield ConfigurationFault(file.origin, "policy.file", f"there is no file {file.value}")
    shadow = entries.by_path.get(("policy", "shadow"))
    for candidate in shadow.value if shadow else ():
        if not candidate.is_file():
            yield ConfigurationFault(shadow.origin, "policy.shadow", f"there is no file {candidate}")


def the_guard_has_something_to_guard(entries: Entries) -> Faults:
    """Bands that hold every share, and a guard that somebody has described but not switched on, would be silently off."""
    keys = {path[1]: entry for path, entry in entries.by_path.items() if path[0] == "policy_guard"}
    window, bands = keys.get("window"), [keys.get(name) for name in ("review_band", "block_band")]
    if window is None:
        return
    if window.value is not None and all(band and band.value == (0.0, 1.0) for band in bands):
        message = "both policy_guard.review_band and policy_guard.block_band hold every share from 0 to 1: nothing could ever leave them"
        yield entries.fault(message, ("policy_guard", "window"))
    elif window.value is None and window.rank == 0:
        for name, entry in keys.items():
            if entry.rank > 0:
                message = 'has no effect without policy_guard.window, which is "off" unless you set it'
                yield ConfigurationFault(entry.origin, f"policy_guard.{name}", message)


SWITCHES = (
    ("events.kafka.create_topic", (False,), ("partitions", "replication_factor")),
    ("events.kafka.security_protocol", ("PLAINTEXT", "SASL_PLAINTEXT"), ("ca_file", "certificate_file", "key_file")),
    ("events.kafka.security_protocol", ("PLAINTEXT", "SSL"), ("sasl_mechanism",)),
    (
        "events.rabbitmq.declare",
        (False,),
        ("queues", "binding", "queue_type", "single_active_consumer", "dead_letter_exchange", "dead_letter_queue"),
    ),
    ("events.rabbitmq.exchange_type", ("x-consistent-hash",), ("binding",)),
)
"""Keys of brokers, the values with which other keys beside them have no effect, and those."""


def keys_of_brokers_have_an_effect(entries: Entries) -> Faults:
    """What somebody has set and is not used would be silently off."""
    for switch, values, names in SWITCHES:
        value = entries.get(switch)
        table = tuple(switch.split(".")[:-1])
        for name in names if value in values else ():
            entry = entries.by_path.get((*table, name))
            if entry and entry.rank > 0 and entry.value is not None:
                yield ConfigurationFault(entry.origin, ".".join((*table, name)), f"has no effect while {switch} is {json.dumps(value)}")


def files_for_kafka_are_there(entries: Entries) -> Faults:
    paths = {name: ("events", "kafka", name) for name in ("ca_file", "certificate_file", "key_file")}
    named = {name: entries.by_path[path] for name, path in paths.items() if path in entries.by_path and entries.by_path[path].value}
    for name, entry in named.items():
        if not entry.value.is_file():
            yield ConfigurationFault(entry.origin, f"events.kafka.{name}", f"there is no file {entry.value}")
    pair = [name for name in ("certificate_file", "key_file") if name in named]
    if len(pair) == 1:
        message = "events.kafka.certificate_file and events.kafka.key_file come together: a certificate and the key that belongs to it"
        yield entries.fault(message, paths[pair[0]])


def dead_letters_lie_apart(entries: Entries) -> Faults:
    """What consumers reject must not come back to them."""
    table = "events.rabbitmq"
    exchange, queues = entries.get(f"{table}.exchange"), entries.get(f"{table}.queues")
    if exchange is not None and exchange == entries.get(f"{table}.dead_letter_exchange"):
        message = f"{table}.dead_letter_exchange must be another exchange than {table}.exchange"
        yield entries.fault(message, ("events", "rabbitmq", "dead_letter_exchange"), ("events", "rabbitmq", "exchange"))
    if queues is not None and entries.get(f"{table}.dead_letter_queue") in queues:
        message = f"{table}.dead_letter_queue must be none of {table}.queues"
        yield entries.fault(message, ("events", "rabbitmq", "dead_letter_queue"), ("events", "rabbitmq", "queues"))


def tokens_can_be_checked(entries: Entries) -> Faults:
    """Whose tokens are meant, and for whom, has no default; and keys that come over an open line are anybody's."""
    keys = {path[-1]: entry for path, entry in entries.by_path.items() if path[:2] == ("auth", "jwt")}
    url = keys.pop("jwks_url", None)
    if url is None:
        return
    if url.value is None:
        for name, entry in keys.items() if url.rank == 0 else ():
            if entry.rank > 0:
                yield ConfigurationFault(entry.origin, f"auth.jwt.{name}", "has no effect without auth.jwt.jwks_url, which is not set")
        return
    for name in ("issuer", "audience"):
        if name in keys and not keys[name].value:
            message = f"auth.jwt.{name} has to be set with auth.jwt.jwks_url: anybody else's tokens would be taken"
            yield entries.fault(message, ("auth", "jwt", name), ("auth", "jwt", "jwks_url"))
    parts = urlsplit(url.value)
    if parts.scheme == "http" and not _is_this_machine(parts.hostname or "") and entries.get("auth.jwt.allow_http") is False:
        message = "expected https://: over http:// anybody on the way can put in keys of their own (auth.jwt.allow_http = true allows it)"
        yield ConfigurationFault(url.origin, "auth.jwt.jwks_url", message)


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def the_way_to_the_database_is_whole(entries: Entries, secrets: Secrets, origins: Mapping[str, str]) -> Faults:
    """A pooler in transaction mode forgets who listens and who holds a lock as soon as a transaction ends: there has to be a way past it."""
    if secrets.database_direct_url and not secrets.database_url:
        message = "leads past a pooler, but DATABASE_URL, which leads to it, is not set: set both, or DATABASE_URL alone"
        yield ConfigurationFault(origins["DATABASE_DIRECT_URL"], "", message)
    if entries.get("database.pooler") == "transaction":
        for name in ("DATABASE_URL", "DATABASE_DIRECT_URL"):
            if getattr(secrets, name.lower()) is None:
                message = f"{name} has to be set with a pooler: DATABASE_URL leads to it, DATABASE_DIRECT_URL past it to PostgreSQL itself"
                yield entries.fault(message, ("database", "pooler"))


def secrets_of_webhooks_are_used(entries: Entries, secrets: Secrets, origins: Mapping[str, str]) -> Faults:
    webhooks = tuple(entries.under("events", "webhooks"))
    for name in secrets.webhook_secrets:
        if name not in webhooks:
            yield ConfigurationFault(origins[f"{OF_WEBHOOK}{name.upper()}"], "", f"there is no webhook {name}; {did_you_mean(name, webhooks)}")


def traces_that_are_off_are_meant_to_be(entries: Entries) -> Faults:
    """Traces that somebody has described but not switched on would be silently off."""
    traces = entries.by_path.get(("telemetry", "traces"))
    if traces is None or traces.value != "off" or traces.rank > 0:
        return
    for name in ("endpoint", "service_name", "sample_ratio"):
        entry = entries.by_path.get(("telemetry", name))
        if entry and entry.rank > 0:
            message = 'has no effect without telemetry.traces, which is "off" unless you set it'
            yield ConfigurationFault(entry.origin, f"telemetry.{name}", message)


WEBHOOK_NAME = re.compile(r"[a-z0-9_]{1,50}")
WEBHOOK_SINK = "webhook_"


def webhooks_are_sinks(entries: Entries) -> Faults:
    """A webhook that no sink is named after would be silently off."""
    sinks, webhooks = entries.get("events.sinks"), entries.under("events", "webhooks")
    if sinks is None:
        return
    for name, keys in webhooks.items():
        origin = max(keys.values(), key=lambda entry: entry.rank).origin
        if not WEBHOOK_NAME.fullmatch(name):
            message = "a webhook's name is 1 to 50 small letters, digits and _"
            yield ConfigurationFault(origin, f"events.webhooks.{name}", message)
        elif WEBHOOK_SINK + name not in sinks:
            message = f"the webhook gets no events; name {WEBHOOK_SINK}{name} in events.sinks"
            yield ConfigurationFault(origin, f"events.webhooks.{name}", message)


def webhooks_are_encrypted(entries: Entries) -> Faults:
    for name, keys in entries.under("events", "webhooks").items():
        url, allow_private = keys.get("url"), keys.get("allow_private")
        if url and allow_private and url.value.startswith("http:") and not allow_private.value:
            message = f"expected https, or events.webhooks.{name}.allow_private = true for a receiver within a network of your own"
            yield ConfigurationFault(url.origin, f"events.webhooks.{name}.url", message)


RULES = (
    lease_outlives_the_settle,
    attempts_fit_the_deadline,
    plans_are_disjoint,
    tools_are_planned,
    limits_hold_over_workers,
    the_guard_has_something_to_guard,
    keys_of_brokers_have_an_effect,
    files_for_kafka_are_there,
    dead_letters_lie_apart,
    tokens_can_be_checked,
    traces_that_are_off_are_meant_to_be,
    webhooks_are_sinks,
    webhooks_are_encrypted,
    named_paths_exist,
)
