"""What the service counts and times, for Prometheus and for `GET /api/metrics`. One registry per app; what is shown is of all its workers.

No label holds anything that a caller sent: each has a closed set or a shape, a replacement for what does not fit, and a limit on its series.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from paynow.observability import shapes, sharing
from paynow.observability.readings import BUCKETS_S, bucket_counts, quantile_ms, totals
from paynow.observability.shapes import WITHHELD, Check
from paynow.observability.sharing import Shared

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes that machines ask for on their own; `totalRequests` and the overall p95 leave them out."""

SERIES_MAX = 256
"""Of one metric. Series beyond it are counted under the replacements of their labels."""

BREAKER_STATES = {"closed": 0, "half_open": 1, "open": 2}

LABELS: Mapping[str, tuple[Check, str]] = {
    "route": (shapes.route, "unmatched"),
    "method": (shapes.method, "other"),
    "status": (shapes.like("[1-5][0-9]{2}"), "other"),
    "decision": (shapes.decision, "other"),
    "tool": (shapes.word, "other"),
    "tool_status": (shapes.tool_status, "other"),
    "on_failure": (shapes.one_of("block", "review", "ignore"), "other"),
    "kind": (shapes.one_of("customer", "api_key"), "other"),
    "policy_outcome": (shapes.one_of("taken", "refused"), "other"),
    "action": (shapes.one_of("deny", "local"), "other"),
    "step": (shapes.word, "other"),
    "outcome": (shapes.one_of("ok", "error", "timeout"), "other"),
    "sink": (shapes.word, "other"),
    "why": (shapes.one_of("queue_full", "not_delivered"), "other"),
    "candidate": (shapes.like("[0-9a-f]{6,64}", numbers=True), "other"),
    "recorded": (shapes.decision, "other"),
    "judged": (shapes.decision, "other"),
    "currency": (shapes.like("[A-Z]{3}"), "other"),
}
"""Every label there is: the check of its values, and what stands for a value that does not pass."""


class _Counter(Counter):
    """prometheus_client's, without its checks at every increment: what is counted here is never negative and always has its labels."""

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        self._value.inc(amount)


class _Histogram(Histogram):
    """prometheus_client's, which looks through the bounds one by one."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        self._sum.inc(amount)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)


class _Series(dict[tuple[str, ...], Any]):
    """The children of one metric by their labels' values, each looked up in prometheus_client once."""

    def __init__(self, metric: Any, labels: tuple[str, ...]) -> None:
        self.metric = metric
        self._labels = labels

    def __missing__(self, values: tuple[str, ...]) -> Any:
        safe = tuple(self._safe(label, value) for label, value in zip(self._labels, values, strict=True))
        if safe in self:
            return self[safe]
        if len(self) >= SERIES_MAX:
            return self.metric.labels(*(LABELS[label][1] for label in self._labels))
        self[safe] = self.metric.labels(*safe)
        return self[safe]

    @staticmethod
    def _safe(label: str, value: str) -> str:
        check, replacement = LABELS[label]
        safe = check(value)
        return replacement if safe is WITHHELD else str(safe)


class Metrics:
    """All metrics of one process, or its part of those of several workers. Times are handed over in seconds; docs/observability.md describes each.

    Values in memory are the faster ones: shared ones cost a decision 16 µs more (32 instead of 16 on the machine where it was measured).
    """

    def __init__(self, shared: Shared | None = None) -> None:
        self._shared = shared
        if shared is None:
            sharing.keep_in_memory()
        else:
            shared.enter()
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Counter("paynow_worker_starts", "Processes begun; more than there are workers when some died", registry=self.registry).inc()
        self._of_requests()
        self._of_decisions()
        self._of_tools()
        self._of_the_store()
        self._of_events()
        self._of_cases()
        self._of_shadows()
        self._of_the_policy_guard()
        self._of_traces()

    def _of_requests(self) -> None:
        self._requests = self._counter("paynow_requests", "HTTP requests answered", "route", "method", "status")
        self._request_s = self._histogram("paynow_request_duration_seconds", "Time from a request's head to its answer", "route", "method")
        self._turned_away = Counter(
            "paynow_payments_turned_away", "Requests for a decision refused because too many were in flight", registry=self.registry
        )
        self._limited = self._counter("paynow_rate_limited", "Requests refused by a rate limit", "kind")
        self._jwks_fetches = self._counter("paynow_jwks_fetches", "Fetches of the keys that tokens are checked with", "outcome")
        self._jwks_fetched_at = self._gauge(
            "paynow_jwks_fetched_timestamp_seconds", "When those keys were last had, in seconds since 1970", "livemin"
        )
        self._limiter_failures = self._counter("paynow_limiter_failures", "Requests that met a rate limiter without its store", "action")
        self._limiter_down = self._gauge("paynow_limiter_down", "1 while the rate limiter's store does not answer, else 0", "livemax")

    def _of_decisions(self) -> None:
        self._decisions = self._counter("paynow_decisions", "Payments decided, replays not counted", "decision")
        self._degraded = self._counter("paynow_decisions_degraded", "Decisions that a tool's failure had a part in", "decision")
        self._decision_s = self._histogram("paynow_decision_duration_seconds", "Time from the claim to the settled decision", "decision")
        self._policies = self._counter("paynow_policies_met", "Times that another policy was made the active one", "policy_outcome")
        self._replays = Counter("paynow_replays", "Answers given again for a known key", registry=self.registry)
        for decision in ("allow", "review", "block"):
            _ = self._decisions[decision,], self._degraded[decision,], self._decision_s[decision,]

    def _of_tools(self) -> None:
        self._attempts = self._counter("paynow_tool_attempts", "Attempts at tools", "tool", "tool_status")
        self._attempt_s = self._histogram("paynow_tool_attempt_duration_seconds", "Time of one attempt, skipped ones left out", "tool")
        self._fallbacks = self._counter("paynow_tool_fallbacks", "Tools that gave no answer, by the fallback used", "tool", "on_failure")
        self._breakers = _Series(self._gauge("paynow_breaker_state", "Circuit breaker: 0 closed, 1 half open, 2 open", "livemax", "tool"), ("tool",))

    def _of_the_store(self) -> None:
        self._statements = self._counter("paynow_store_statements", "Calls of PostgreSQL", "step", "outcome")
        self._statement_s = self._histogram("paynow_store_statement_duration_seconds", "Time of one call of PostgreSQL", "step")
        self._batched = self._counter("paynow_store_batched_payments", "Payments that statements of a step were for", "step")
        self._waiting = self._gauge("paynow_store_waiting_payments", "Payments that wait until a statement takes them", "livesum")
        self._unavailable = Counter("paynow_store_unavailable", "Requests that PostgreSQL could not serve", registry=self.registry)
        self._pool_open = self._gauge("paynow_pool_open_connections", "Connections to PostgreSQL that are open", "livesum")
        self._pool_busy = self._gauge("paynow_pool_busy_connections", "Connections to PostgreSQL in use", "livesum")
        self._pool_waiting = self._gauge("paynow_pool_waiting_calls", "Calls that wait for a connection", "livesum")
        self._completed = Counter("paynow_completed_claims", "Abandoned claims finished by the completer", registry=self.registry)
        self._expired = Counter("paynow_expired_reservations", "Reservations that nobody ended in time", registry=self.registry)
        self._payees_behind = self._gauge(
            "paynow_payees_behind_seconds", "Age of the oldest payment that is not counted for its payee yet", "livemostrecent"
        )

    def _of_events(self) -> None:
        self._delivered = self._counter("paynow_events_delivered", "Events that a sink took", "sink")
        self._delivery_failures = self._counter("paynow_event_delivery_failures", "Deliveries that a sink did not take", "sink")
        self._buried = self._counter("paynow_dead_letters", "Events that a sink refused for good and that were put aside", "sink")
        self._outbox_rows = self._gauge("paynow_outbox_rows", "Events that no relay has seen yet", "livemostrecent")
        self._outbox_oldest = self._gauge("paynow_outbox_oldest_seconds", "Age of the oldest event that no relay has seen yet", "livemostrecent")
        self._sinks = [
            _Series(self._gauge(f"paynow_sink_{name}", text, "livemostrecent", "sink"), ("sink",))
            for name, text in (
                ("behind_events", "Events that a sink lacks"),
                ("behind_seconds", "Age of the oldest event that a sink lacks"),
                ("retries", "Events that a sink is to get by themselves, later"),
                ("dead_letters", "Events that lie with a sink's dead letters"),
                ("disabled", "1 while a sink gets nothing because its receiver wants no more, else 0"),
            )
        ]

    def _of_shadows(self) -> None:
        verdicts = ("candidate", "recorded", "judged")
        decisions = self._gauge("paynow_shadow_decisions", "Decisions that a shadow policy judged", "livemostrecent", *verdicts)
        amounts = self._gauge("paynow_shadow_amount_minor", "Their amounts in minor units", "livemostrecent", *verdicts, "currency")
        behind = self._gauge("paynow_shadow_behind_seconds", "Age of the oldest decision that it has not judged", "livemostrecent", "candidate")
        self._shadow_decisions = _Series(decisions, verdicts)
        self._shadow_amounts = _Series(amounts, (*verdicts, "currency"))
        self._shadow_behind = _Series(behind, ("candidate",))

    def _of_cases(self) -> None:
        self._cases_waiting = self._gauge("paynow_cases_waiting", "Cases that are not resolved", "livemostrecent")
        self._cases_overdue = self._gauge("paynow_cases_overdue", "Cases that are not resolved and past their due time", "livemostrecent")
        self._cases_oldest = self._gauge("paynow_cases_oldest_seconds", "Age of the oldest case that is not resolved", "livemostrecent")

    def _of_the_policy_guard(self) -> None:
        self._watched = self._gauge("paynow_policy_watched_decisions", "Decisions that the policy guard looks at", "livemostrecent")
        share = self._gauge("paynow_policy_share", "Their share by decision, 0 while there are none", "livemostrecent", "decision")
        self._shares = _Series(share, ("decision",))
        self._outside = self._gauge("paynow_policy_outside_band", "1 while the shares are told to have left their band, else 0", "livemostrecent")
        self._band_left = Counter("paynow_policy_band_left", "Times that the shares left their band", registry=self.registry)
        self._rolled_back = Counter("paynow_policy_rollbacks", "Times that the policy before was made the active one for it", registry=self.registry)

    def _of_traces(self) -> None:
        self._spans_delivered = Counter("paynow_spans_delivered", "Spans that a collector took", registry=self.registry)
        self._spans_dropped = self._counter("paynow_spans_dropped", "Spans that were lost", "why")

    def _counter(self, name: str, text: str, *labels: str) -> _Series:
        return _Series(_Counter(name, text, _named(labels), registry=self.registry), labels)

    def _histogram(self, name: str, text: str, *labels: str) -> _Series:
        return _Series(_Histogram(name, text, _named(labels), registry=self.registry, buckets=BUCKETS_S), labels)

    def _gauge(self, name: str, text: str, over_workers: str, *labels: str) -> Gauge:
        """`over_workers` says what living workers' values come to: `livesum`, `livemax` (the worst), `livemostrecent` (all see the same)."""
        return Gauge(name, text, labels, registry=self.registry, multiprocess_mode=over_workers)

    # ------------------------------------------------------------ what happened

    def request_finished(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered. `route` is the router's template; anything else counts as `unmatched`, an unknown method as `other`."""
        self._requests[route, method, str(status)].inc()
        self._request_s[route, method].observe(seconds)

    def payment_turned_away(self) -> None:
        """A request for a decision was refused before it was read, because too many are in flight."""
        self._turned_away.inc()

    def policy_taken(self, taken: bool) -> None:
        """Another policy was made the active one; `taken`: it fits the tools, and decides from now on."""
        self._policies["taken" if taken else "refused",].inc()

    def rate_limited(self, kind: str) -> None:
        """A request was refused by the limit of a `customer` or an `api_key`."""
        self._limited[kind,].inc()

    def jwks_fetched(self, outcome: str, at_s: float) -> None:
        """A fetch of the keys that tokens are checked with ended at `at_s` (seconds since 1970): `ok`, `error` or `timeout`."""
        self._jwks_fetches[outcome,].inc()
        if outcome == "ok":
            self._jwks_fetched_at.set(at_s)

    def limiter_failed(self, action: str) -> None:
        """A request met a limiter whose store failed or had failed a moment before, and the setting said `deny` or `local`."""
        self._limiter_failures[action,].inc()

    def limiter_down(self, down: bool) -> None:
        """The limiter's store has begun to fail, or answers again."""
        self._limiter_down.set(int(down))

    def payment_decided(self, decision: str, degraded: bool, seconds: float) -> None:
        """A decision was stored by this process."""
        self._decisions[decision,].inc()
        self._decision_s[decision,].observe(seconds)
        if degraded:
            self._degraded[decision,].inc()

    def payment_replayed(self) -> None:
        """A known key got its first answer again."""
        self._replays.inc()

    def tool_attempt(self, tool: str, status: str, seconds: float) -> None:
        """One attempt at a tool ended: `ok`, `error`, `timeout`, `invalid` or `skipped`."""
        self._attempts[tool, status].inc()
        if status != "skipped":
            self._attempt_s[tool,].observe(seconds)

    def tool_fell_back(self, tool: str, on_failure: str) -> None:
        """A tool gave no answer, and its fallback (`block`, `review`, `ignore`) was used."""
        self._fallbacks[tool, on_failure].inc()

    def breaker_state(self, tool: str, state: str) -> None:
        """A tool's breaker is now `closed`, `half_open` or `open`."""
        self._breakers[tool,].set(BREAKER_STATES[state])

    def store_statement(self, step: str, seconds: float, outcome: str) -> None:
        """One call of PostgreSQL ended: `ok`, `error` or `timeout`."""
        self._statements[step, outcome].inc()
        self._statement_s[step,].observe(seconds)

    def store_batch(self, step: str, rows: int) -> None:
        """So many payments share one statement."""
        self._batched[step,].inc(rows)

    def waiting_payments(self, count: int) -> None:
        """So many payments wait until a statement takes them."""
        self._waiting.set(count)

    def store_unavailable(self) -> None:
        """PostgreSQL could not serve a request."""
        self._unavailable.inc()

    def pool(self, open: int, busy: int, waiting: int) -> None:  # noqa: A002 - the field's own word
        """The pool's connections, and the calls that wait for one."""
        self._pool_open.set(open)
        self._pool_busy.set(busy)
        self._pool_waiting.set(waiting)

    def completed_claims(self, count: int) -> None:
        """The completer finished so many abandoned claims."""
        self._completed.inc(count)

    def expired_reservations(self, count: int) -> None:
        """So many reservations ran out."""
        self._expired.inc(count)

    def payees_behind(self, seconds: float) -> None:
        """How old the oldest settled payment is that is not counted for its payee yet."""
        self._payees_behind.set(seconds)

    def events_delivered(self, sink: str, count: int) -> None:
        """A sink took so many events."""
        self._delivered[sink,].inc(count)

    def delivery_failed(self, sink: str) -> None:
        """A sink did not take a delivery."""
        self._delivery_failures[sink,].inc()

    def event_buried(self, sink: str) -> None:
        """An event that a sink refused for good lies with its dead letters."""
        self._buried[sink,].inc()

    def outbox(self, rows: int, oldest_s: float) -> None:
        """How many events no relay has seen yet, and how old the oldest is."""
        self._outbox_rows.set(rows)
        self._outbox_oldest.set(oldest_s)

    def sink_behind(self, sink: str, events: int, oldest_s: float, retries: int, dead_letters: int, disabled: bool) -> None:
        """Events that a sink lacks, the age of the oldest, those that it gets by themselves later, dead letters, and whether it is disabled."""
        for gauge, value in zip(self._sinks, (events, oldest_s, retries, dead_letters, disabled), strict=True):
            gauge[sink,].set(value)

    def cases(self, waiting: int, overdue: int, oldest_s: float) -> None:
        """How many cases are not resolved, how many of them are past their due time, and how old the oldest is."""
        self._cases_waiting.set(waiting)
        self._cases_overdue.set(overdue)
        self._cases_oldest.set(oldest_s)

    def shadow_behind(self, candidate: str, seconds: float) -> None:
        """The oldest decision that a shadow policy has not judged is so old; 0 if it has judged all."""
        self._shadow_behind[candidate,].set(seconds)

    def shadow_judged(self, candidate: str, recorded: str, judged: str, decisions: int) -> None:
        """A shadow policy has come to `judged` where `recorded` was decided, so many times since it began."""
        self._shadow_decisions[candidate, recorded, judged].set(decisions)

    def shadow_amount(self, candidate: str, recorded: str, judged: str, currency: str, amount_minor: float) -> None:
        """The amounts of those in a currency come to so much."""
        self._shadow_amounts[candidate, recorded, judged, currency].set(amount_minor)

    def policy_watched(self, decisions: int, reviews: int, blocks: int, *, outside: bool) -> None:
        """So many decisions of the active policy lie in the guard's window; `outside`: their shares are told to have left their band."""
        self._watched.set(decisions)
        self._shares["review",].set(reviews / decisions if decisions else 0)
        self._shares["block",].set(blocks / decisions if decisions else 0)
        self._outside.set(int(outside))

    def policy_band_left(self, *, rolled_back: bool) -> None:
        """The shares left their band; `rolled_back`: the policy before was made the active one again for it."""
        self._band_left.inc()
        if rolled_back:
            self._rolled_back.inc()

    def spans_delivered(self, count: int) -> None:
        """A collector took so many spans. Called on one thread only, as those that were not delivered are."""
        self._spans_delivered.inc(count)

    def spans_dropped(self, why: str, count: int) -> None:
        """So many spans are lost: the queue was full (`queue_full`), or no collector took them (`not_delivered`)."""
        self._spans_dropped[why,].inc(count)

    # ------------------------------------------------------------ what is shown

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format, to be sent as `CONTENT_TYPE`. Takes milliseconds."""
        return generate_latest(_Families(self._families()))

    def summary(self) -> dict[str, Any]:
        """What `GET /api/metrics` answers. Latencies are milliseconds, 0 while there is nothing to tell. Takes milliseconds.

        `totalRequests` and the overall `p95Latency` cover every route but the probes. A tool's `calls` are its attempts without the skipped ones.
        """
        families = {family.name: family for family in self._families()}
        request_s = families["paynow_request_duration_seconds"]
        routes = bucket_counts(request_s, lambda labels: f"{labels['method']} {labels['route']}")
        overall = bucket_counts(request_s, lambda labels: None if labels["route"] in PROBES else "all").get("all")
        return {
            "totalRequests": int(overall[-1]) if overall else 0,
            "decisions": totals(families["paynow_decisions"], lambda labels: labels["decision"]),
            "p95Latency": quantile_ms(overall, 0.95) if overall else 0.0,
            "routes": {
                name: {"count": int(counts[-1]), **{f"p{percent}Latency": quantile_ms(counts, percent / 100) for percent in (50, 95, 99)}}
                for name, counts in sorted(routes.items())
            },
            "tools": _tools(families["paynow_tool_attempts"], families["paynow_tool_attempt_duration_seconds"]),
        }

    def _families(self) -> list[Metric]:
        """Of this process, or of all workers; a metric that has no series yet is there all the same."""
        own = list(self.registry.collect())
        if self._shared is None:
            return own
        shared = self._shared.families()
        there = {family.name for family in shared}
        return [*shared, *(family for family in own if family.name not in there)]


def _tools(attempts: Metric, attempt_s: Metric) -> dict[str, dict[str, float]]:
    failures = totals(attempts, lambda labels: None if labels["status"] in ("ok", "skipped") else labels["tool"])
    return {
        tool: {"calls": int(counts[-1]), "failures": failures.get(tool, 0), "p95Latency": quantile_ms(counts, 0.95)}
        for tool, counts in sorted(bucket_counts(attempt_s, lambda labels: labels["tool"]).items())
    }


def _named(labels: tuple[str, ...]) -> list[str]:
    """The labels as Prometheus shows them: a tool's status is `status` there."""
    return ["status" if label == "tool_status" else label for label in labels]


class _Families:
    """What is to be written, without the `_created` series, which double the text and which nobody reads."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
