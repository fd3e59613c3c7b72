"""The one composition root: what exists, out of which settings, and in which order it starts and stops."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import aiohttp
from loguru import logger

from paynow.agent import Agent, Observer, Plan, Ports, make_plan
from paynow.cases.work import CaseWork
from paynow.clock import Clock
from paynow.errors import ConfigurationFault, ConfigurationRefused, Refusal
from paynow.events.relay import Relay
from paynow.explain.service import Explanations
from paynow.http.gate import Gate
from paynow.http.keyring import Caller, Keyring
from paynow.http.recent_events import RecentEvents
from paynow.http.server import Server, make_application
from paynow.http.services import Services
from paynow.limit_share import LimitShare
from paynow.limit_watch import PAUSE_S, LimitWatch
from paynow.observability.logs import loop_exception_handler
from paynow.observability.metrics import Metrics
from paynow.observability.propagation import propagating
from paynow.observability.sharing import Shared
from paynow.observability.spans import Spans, untraced
from paynow.observability.telemetry import telemetry_faults
from paynow.payments.completer import Completer
from paynow.payments.decide import Decide, DecideLimits
from paynow.payments.payee_counting import PayeeCounting
from paynow.payments.policy_guard import PolicyGuard
from paynow.payments.policy_proposals import ProposePolicy
from paynow.payments.policy_versions import PolicyVersions
from paynow.payments.reservations import Reservations
from paynow.plugin_api import Field, RateLimiter
from paynow.plugin_loader import Plugins, load_plugins
from paynow.policy import Policy, compile_policy
from paynow.settings import Settings
from paynow.settings.load import Loaded
from paynow.shadow.follower import Handover
from paynow.shadow.process import ShadowProcess
from paynow.store import Store

COMPLETER_EVERY_S = 1.0
PAYEES_EVERY_S = 1.0
CHORES_EVERY_S = 5.0
TOOL_CONNECTIONS_MAX = 100


@dataclass(frozen=True, slots=True)
class Assembly:
    """What the settings come to, before anything runs: plugins, the plan, the policy of the file, and those that only watch."""

    settings: Settings
    plugins: Plugins
    plan: Plan
    policy: Policy
    shadow: tuple[Policy, ...] = ()

    def compile(self, text: str, origin: str, *, run_examples: bool = True) -> Policy:
        """Another policy against the same plan. Raises `ConfigurationRefused` with all faults."""
        return compile_for(self.plan, text, origin, run_examples=run_examples)


def outputs_of(plan: Plan) -> dict[str, Mapping[str, Field]]:
    """What rules can read: the outputs of a plan's tools."""
    return {planned.tool.name: planned.tool.output for planned in plan.gather}


def compile_for(plan: Plan, text: str, origin: str, *, run_examples: bool = True) -> Policy:
    """A policy against the outputs of a plan's tools; of an earlier one without its examples. Raises `ConfigurationRefused` with all faults."""
    policy = compile_policy(text, origin=origin, tools=outputs_of(plan), run_examples=run_examples)
    message = 'on_failure = "ignore" would let a failure pass unseen, because a rule reads this tool: choose "review" or "block"'
    faults = [
        ConfigurationFault(origin, f"agent.tools.{planned.tool.name}.on_failure", message)
        for planned in plan.gather
        if planned.settings.on_failure == "ignore" and planned.tool.name in policy.tools_read
    ]
    if faults:
        raise ConfigurationRefused(faults)
    return policy


def check(loaded: Loaded) -> Assembly:
    """All that can be checked without a database: the boot's own code. Raises `ConfigurationRefused` with all faults of a stage at once."""
    settings = loaded.settings
    origin_of = loaded.origin_of
    plugins = load_plugins(settings, origin_of=origin_of)
    faults: list[ConfigurationFault] = []
    if not settings.secrets.log_hash_key:
        message = "is not set: give it any secret of 16 characters or more; customers appear in the logs as hashes under it"
        faults.append(ConfigurationFault("environment", "LOG_HASH_KEY", message))
    if settings.auth.jwt.jwks_url is not None and find_spec("joserfc") is None:
        message = "tokens are checked by joserfc, which is not installed: pip install 'paynow[jwt]'"
        faults.append(ConfigurationFault(origin_of("auth.jwt.jwks_url"), "auth.jwt.jwks_url", message))
    backend = settings.rate_limit.backend
    if settings.server.workers > 1 and not plugins.limiters[backend].shared:
        message = f"{backend} holds for one process only, and there are {settings.server.workers} workers (server.workers)"
        faults.append(ConfigurationFault(origin_of("rate_limit.backend"), "rate_limit.backend", message))
    faults += (ConfigurationFault(origin_of(key), key, message) for key, message in telemetry_faults(settings))
    plan: Plan | None = None
    try:
        plan = make_plan(settings.agent, plugins.tools, origin_of=origin_of)
    except ConfigurationRefused as refused:
        faults += refused.faults
    texts: list[str] = []
    for key, file in (("policy.file", settings.policy.file), *(("policy.shadow", file) for file in settings.policy.shadow)):
        try:
            texts.append(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            faults.append(ConfigurationFault(origin_of(key), key, f"the policy cannot be read: {type(error).__name__}"))
    if faults or plan is None:
        raise ConfigurationRefused(faults)
    policy, *shadow = (compile_for(plan, text, str(file)) for text, file in zip(texts, (settings.policy.file, *settings.policy.shadow), strict=True))
    if len({candidate.version for candidate in shadow}) < len(shadow):
        raise ConfigurationRefused([ConfigurationFault(origin_of("policy.shadow"), "policy.shadow", "two of the files hold the same policy")])
    return Assembly(settings, plugins, plan, policy, tuple(shadow))


def open_store(assembly: Assembly, dsn: str, metrics: Metrics, spans: Spans | None = None) -> Store:
    """The store as the configuration wants it."""
    database = assembly.settings.database
    return Store(
        assembly.settings.secrets.database_url or dsn,
        direct_dsn=dsn,
        pooled=database.pooler == "transaction",
        connections_max=database.connections_max,
        lanes=database.lanes,
        batch_max=database.batch_max,
        connect_timeout_s=database.connect_timeout_ms / 1000,
        acquire_timeout_s=database.acquire_timeout_ms / 1000,
        statement_timeout_s=database.statement_timeout_ms / 1000,
        lease_s=assembly.settings.idempotency.lease_s,
        claim_is_durable=any(planned.tool.outside for planned in assembly.plan.on_review),
        observe=metrics.store_statement,
        observe_batch=metrics.store_batch,
        spans=spans,
    )


def traces(assembly: Assembly, metrics: Metrics) -> tuple[Spans | None, Callable[[], Awaitable[None]]]:
    """What makes spans, and what delivers the last of them at the end. None if traces are off: then no part of OpenTelemetry is loaded either."""
    telemetry = assembly.settings.telemetry
    if telemetry.traces == "off":
        return None, _nothing
    from paynow.observability.otlp import Delivery

    delivery = Delivery(telemetry, assembly.settings.secrets.otel_exporter_otlp_headers, metrics)
    return Spans(delivery.take, sample_ratio=telemetry.sample_ratio), delivery.close


async def _nothing() -> None:
    """There is nothing to close."""


def make_relay(assembly: Assembly, store: Store, metrics: Metrics, clock: Clock, spans: Spans | None) -> Relay:
    """A relay to the configured sinks, of which there is at least one."""
    events = assembly.settings.events
    return Relay(
        store.events,
        [*assembly.plugins.sinks.values()],
        metrics,
        poll_s=events.poll_ms / 1000,
        keep_s=events.keep_s,
        clock=clock,
        publishing=spans.publish if spans is not None else untraced,
    )


@asynccontextmanager
async def relay_alone(assembly: Assembly, dsn: str) -> AsyncIterator[asyncio.Task[None]]:
    """Relays for as long as it lasts, in a process that serves nothing; the task that does it ends before only by a fault."""
    asyncio.get_running_loop().set_exception_handler(loop_exception_handler)
    metrics = Metrics()
    spans, deliver_spans = traces(assembly, metrics)
    store = open_store(assembly, dsn, metrics)
    relay = make_relay(assembly, store, metrics, Clock(), spans)
    running = asyncio.create_task(relay.run(), name="relay")
    try:
        yield running
    finally:
        await relay.stop(assembly.settings.server.shutdown_grace_s)
        await asyncio.wait([running])
        await store.close()
        await deliver_spans()


class Service:
    """One running process of PayNow. `start` says on which port it listens; `stop` takes it apart in the reverse order.

    `dsn` leads to the database past whatever pooler there is; payments take the way that `DATABASE_URL` names, if it is set. `shared` makes it one
    of several workers, which share the port and what they count.
    """

    def __init__(self, assembly: Assembly, dsn: str, *, clock: Clock | None = None, shared: Shared | None = None) -> None:
        self._assembly = assembly
        self._settings = assembly.settings
        self._dsn = dsn
        self._clock = clock or Clock()
        self._shared = shared
        self._undo: list[Callable[[], Any]] = []

    async def start(self) -> int:
        """Raises `ConfigurationRefused` if the active policy does not fit, the store's refusals, and `OSError` if the port is taken."""
        try:
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> int:
        settings, plugins, clock = self._settings, self._assembly.plugins, self._clock
        asyncio.get_running_loop().set_exception_handler(loop_exception_handler)
        metrics = Metrics(self._shared)
        spans, deliver_spans = traces(self._assembly, metrics)
        self._undo.append(deliver_spans)
        store = open_store(self._assembly, self._dsn, metrics, spans)
        self._undo.append(store.close)

        policies = PolicyVersions(store.administration, self._assembly.compile, metrics, clock)
        await policies.start(self._assembly.policy)

        agent = self._agent(store, metrics, spans)
        relay = self._relay(store, metrics, spans)
        wake_relay = relay.wake if relay is not None else lambda: None
        limiter = self._limiter(store, metrics)
        local_limiter = self._local_limiter(store)
        decide = Decide(
            store.decisions,
            agent,
            policies,
            limiter,
            self._limits(),
            metrics,
            Observer(plugins.hook.paynow_payment_decided),
            tools=settings.agent.plan,
            on_review=settings.agent.on_review,
            case_settings=settings.cases,
            clock=clock,
            local_limiter=local_limiter,
            settled=wake_relay,
        )
        reservations = Reservations(store.payments)
        case_work = CaseWork(store.cases, reservation_ttl_s=settings.reservations.ttl_s, resolved=wake_relay)
        completer = Completer(
            decide,
            store.decisions,
            store.payments,
            reservations,
            agent,
            metrics,
            clock,
            on_review=settings.agent.on_review,
            case_settings=settings.cases,
            every_s=COMPLETER_EVERY_S,
            deadline_s=settings.agent.deadline_ms / 1000,
            retention_h=settings.idempotency.retention_h,
        )
        keyring = self._keyring(store, limiter, local_limiter, metrics)
        self._run(policies.follow(), "policies")
        self._run(completer.run(), "completer")
        self._run(PayeeCounting(store.payees, metrics, clock, every_s=PAYEES_EVERY_S).run(), "payees")
        self._guard(store, metrics, wake_relay)
        self._run(self._chores(keyring, store, metrics), "chores")
        await self._watch_with_shadows(store, metrics)

        gate = Gate(settings.server.in_flight_max, metrics.payment_turned_away)
        explanations = Explanations(store, {name: tool.output for name, tool in plugins.tools.items()})
        self._undo.append(explanations.close)
        propose_policy = ProposePolicy(store.policy_proposals, self._assembly.compile)
        recent_events = await self._recent_events()
        services = Services(
            decide, reservations, case_work, store, keyring, metrics, recent_events, gate, explanations, propose_policy, lambda: limiter.state
        )
        port = await self._listen(services, spans)
        started = logger.bind(port=port, host=settings.server.host, policy_version=policies.active.version)
        if self._shared is None:
            started.info("serving")
        else:
            started.bind(pid=os.getpid()).info("worker serving")
        return port

    async def stop(self) -> None:
        """The door first, so that what is under way finishes; then what works behind it; the store last."""
        while self._undo:
            await self._undo.pop()()
        logger.info("stopped")

    def _agent(self, store: Store, metrics: Metrics, spans: Spans | None) -> Agent:
        settings = self._settings.agent
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=TOOL_CONNECTIONS_MAX),
            timeout=aiohttp.ClientTimeout(total=settings.deadline_ms / 1000),
            trace_configs=[propagating()],
        )
        self._undo.append(session.close)
        ports = Ports(accounts=store.reads, activity=store.reads, lists=store.reads, http=session)
        hook = self._assembly.plugins.hook
        agent = Agent(self._assembly.plan, settings, ports, hook, metrics, clock=self._clock, random=random.Random(), spans=spans)
        self._undo.append(agent.close)
        return agent

    async def _listen(self, services: Services, spans: Spans | None) -> int:
        settings = self._settings.server
        follow = self._settings.telemetry.follow_traceparent
        server = Server(
            make_application(services, request_max_bytes=settings.request_max_bytes, spans=spans, follow_traceparent=follow),
            host=settings.host,
            port=settings.port,
            drain_s=settings.drain_s,
            grace_s=settings.shutdown_grace_s,
            clock=self._clock,
            shares_port=self._shared is not None,
        )
        self._undo.append(server.stop)
        return await server.start()

    def _keyring(self, store: Store, limiter: RateLimiter, local_limiter: RateLimiter | None, metrics: Metrics) -> Keyring:
        return Keyring(
            store.administration,
            limiter,
            self._clock,
            environment_key=self._settings.secrets.api_key,
            on_limiter_failure=self._settings.rate_limit.on_store_failure,
            limiter_failed=metrics.limiter_failed,
            rate_limited=metrics.rate_limited,
            local_limiter=local_limiter,
            caller_of_token=self._caller_of_token(metrics),
        )

    def _caller_of_token(self, metrics: Metrics) -> Callable[[str, bytes], Awaitable[Caller]] | None:
        """Keys are fetched from the start on, but nobody waits for them: without tokens the service serves all the same."""
        settings = self._settings.auth.jwt
        if settings.jwks_url is None:
            return None
        from paynow.http.signing_keys import SigningKeys  # what they need is installed with the extra `jwt` only
        from paynow.http.tokens import Tokens

        keys = SigningKeys(settings, self._clock, metrics.jwks_fetched)
        self._undo.append(keys.close)
        tokens = Tokens(settings, keys, self._clock, str(self._settings.secrets.log_hash_key).encode())
        self._run(keys.follow(), "signing keys")
        return tokens.caller

    def _limits(self) -> DecideLimits:
        settings = self._settings
        return DecideLimits(
            deadline_s=settings.agent.deadline_ms / 1000,
            wait_s=settings.idempotency.wait_ms / 1000,
            reservation_ttl_s=settings.reservations.ttl_s,
            customer=settings.rate_limit.customer,
            limiter_failure=settings.rate_limit.on_store_failure,
        )

    def _relay(self, store: Store, metrics: Metrics, spans: Spans | None) -> Relay | None:
        """None without sinks, or if another process is to relay: events then wait in the outbox."""
        if not self._settings.events.relay:
            return None
        if not self._assembly.plugins.sinks:
            logger.warning("no event sink is configured, events wait in the outbox until a service with sinks relays them")
            return None
        relay = make_relay(self._assembly, store, metrics, self._clock, spans)
        running = asyncio.create_task(relay.run(), name="relay")

        async def end() -> None:
            await relay.stop(self._settings.server.shutdown_grace_s)
            await asyncio.wait([running])

        self._undo.append(end)
        return relay

    async def _watch_with_shadows(self, store: Store, metrics: Metrics) -> None:
        """They begin before the first payment is taken. Of several workers the first lets them read along."""
        shadow = self._assembly.shadow
        for policy in shadow:
            await store.shadows.begin(policy.version, policy.text, [rule.id for rule in policy.rules])
        if not shadow or (self._shared is not None and self._shared.worker != 1):
            return
        outputs = {tool: dict(output) for tool, output in outputs_of(self._assembly.plan).items()}
        handover = Handover(self._dsn, tuple(policy.text for policy in shadow), outputs)
        process = ShadowProcess(handover, [policy.version for policy in shadow], store.shadows, metrics, self._clock)
        self._run(process.keep(), "shadow policies")
        self._run(process.show(), "what shadow policies come to")

    def _guard(self, store: Store, metrics: Metrics, wake_relay: Callable[[], None]) -> None:
        settings = self._settings.policy_guard
        if settings.window_s is None:
            return
        guard = PolicyGuard(
            store.policy_band,
            self._assembly.compile,
            settings,
            settings.window_s,
            metrics,
            self._clock,
            late_s=(self._settings.agent.deadline_ms + self._settings.database.statement_timeout_ms) / 1000,
            told=wake_relay,
        )
        self._run(guard.run(), "policy guard")

    async def _recent_events(self) -> RecentEvents | None:
        sinks: Mapping[str, Any] = self._assembly.plugins.sinks
        if "memory" not in sinks:
            return None
        recent = RecentEvents(sinks["memory"], self._shared)
        self._undo.append(recent.close)
        await recent.open()
        return recent

    def _limiter(self, store: Store, metrics: Metrics) -> LimitWatch:
        """Where the payments' own store keeps the buckets too, there is nothing to spare it: it says no at once by itself."""
        settings = self._settings.rate_limit
        made = self._assembly.plugins.limiters[settings.backend].make(store.decisions.take)
        limiter = LimitWatch(
            made,
            action=settings.on_store_failure,
            changed=metrics.limiter_down,
            monotonic=self._clock.monotonic,
            pause_s=0 if made.inside_claim else PAUSE_S,
        )
        self._undo.append(limiter.close)
        return limiter

    def _local_limiter(self, store: Store) -> RateLimiter | None:
        if self._settings.rate_limit.on_store_failure != "local":
            return None
        limiter = self._assembly.plugins.limiters["memory"].make(store.decisions.take)
        workers = self._settings.server.workers
        return limiter if workers == 1 else LimitShare(limiter, workers)

    def _run(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)

        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])

        self._undo.append(end)

    async def _chores(self, keyring: Keyring, store: Store, metrics: Metrics) -> None:
        """Figures and notes that no request should wait for."""
        while True:
            metrics.pool(*store.connections)
            metrics.waiting_payments(store.waiting)
            try:
                await keyring.note_used()
            except Refusal as refusal:
                logger.bind(error=refusal.code).debug("the last use of keys could not be noted yet")
            try:
                metrics.cases(*await store.cases.waiting())
            except Refusal as refusal:
                logger.bind(error=refusal.code).debug("the cases that wait could not be counted")
            try:
                metrics.outbox(*await store.events.waiting())
                for sink in await store.events.behind():
                    metrics.sink_behind(*sink)
            except Refusal as refusal:
                logger.bind(error=refusal.code).debug("the events that wait could not be counted")
            await self._clock.sleep(CHORES_EVERY_S)
