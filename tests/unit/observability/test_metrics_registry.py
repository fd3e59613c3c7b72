"""What is counted and timed, under which labels, and how it is shown."""

from __future__ import annotations

import itertools
import string

import pytest
from prometheus_client.parser import text_string_to_metric_families

from paynow.observability.metrics import CONTENT_TYPE, SERIES_MAX, Metrics

DECIDE = "/api/payments/decide"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_each_registry_is_its_own() -> None:
    one, other = Metrics(), Metrics()
    one.payment_replayed()
    assert value(one, "paynow_replays_total") == 1
    assert value(other, "paynow_replays_total") == 0


def test_a_request_is_counted_and_timed(metrics) -> None:
    metrics.request_finished(DECIDE, "POST", 200, 0.02)
    metrics.request_finished(DECIDE, "POST", 429, 0.001)
    assert value(metrics, "paynow_requests_total", route=DECIDE, method="POST", status="200") == 1
    assert value(metrics, "paynow_request_duration_seconds_count", route=DECIDE, method="POST") == 2
    assert value(metrics, "paynow_request_duration_seconds_sum", route=DECIDE, method="POST") == pytest.approx(0.021)


@pytest.mark.parametrize("path", ["/api/accounts/c_canary_123", "/4111111111111111", "ann@example.com", "", "/x?y=ann", "/" + "a" * 500])
def test_what_is_no_template_counts_as_unmatched(metrics, path) -> None:
    metrics.request_finished(path, "CANARY", 999, 0.001)
    assert value(metrics, "paynow_requests_total", route="unmatched", method="other", status="other") == 1
    exposed = metrics.exposition().decode()
    assert "CANARY" not in exposed
    assert "canary" not in exposed


def test_labels_of_other_metrics_are_held_to_their_sets_too(metrics) -> None:
    metrics.payment_decided("CANARY", True, 0.001)
    metrics.tool_attempt("ann canary", "CANARY", 0.001)
    metrics.tool_fell_back("4111111111111111", "CANARY")
    metrics.rate_limited("CANARY")
    metrics.limiter_failed("CANARY")
    metrics.store_statement("ann canary", 0.001, "CANARY")
    metrics.events_delivered("ann@canary", 1)
    metrics.delivery_failed("ann@canary")
    metrics.breaker_state("ann@canary", "open")
    exposed = metrics.exposition().decode().lower()
    assert "canary" not in exposed
    assert "4111" not in exposed


def test_a_metric_has_only_so_many_series(metrics) -> None:
    for number in range(SERIES_MAX + 50):
        metrics.events_delivered(f"sink_{number}", 1)
    (family,) = [family for family in metrics.registry.collect() if family.name == "paynow_events_delivered"]
    assert len([sample for sample in family.samples if sample.name.endswith("_total")]) == SERIES_MAX + 1
    assert value(metrics, "paynow_events_delivered_total", sink="other") == 50


def test_a_series_that_exists_is_counted_on_when_no_new_one_can_be(metrics) -> None:
    metrics.request_finished("unmatched", "GET", 404, 0.001)
    for first, second in itertools.islice(itertools.product(string.ascii_lowercase, repeat=2), SERIES_MAX):
        metrics.request_finished(f"/{first}{second}", "GET", 200, 0.001)
    metrics.request_finished("/no/Template", "GET", 404, 0.001)
    assert value(metrics, "paynow_requests_total", route="unmatched", method="GET", status="404") == 2


def test_everything_that_is_told_is_shown(metrics) -> None:
    metrics.payment_decided("review", True, 0.02)
    metrics.payment_decided("allow", False, 0.01)
    metrics.payment_replayed()
    metrics.tool_attempt("getBalance", "timeout", 0.2)
    metrics.tool_fell_back("getBalance", "block")
    metrics.rate_limited("customer")
    metrics.limiter_failed("deny")
    metrics.store_statement("settle", 0.003, "ok")
    metrics.store_unavailable()
    metrics.pool(8, 3, 1)
    metrics.events_delivered("log", 5)
    metrics.delivery_failed("log")
    metrics.event_buried("log")
    metrics.outbox(7, 1.5)
    metrics.completed_claims(2)
    metrics.expired_reservations(3)
    metrics.payees_behind(2.5)
    shown = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }
    expected = {
        ("paynow_decisions_total", ("decision", "review")): 1,
        ("paynow_decisions_total", ("decision", "block")): 0,
        ("paynow_decisions_degraded_total", ("decision", "review")): 1,
        ("paynow_decisions_degraded_total", ("decision", "allow")): 0,
        ("paynow_decision_duration_seconds_count", ("decision", "allow")): 1,
        ("paynow_replays_total",): 1,
        ("paynow_tool_attempts_total", ("status", "timeout"), ("tool", "getBalance")): 1,
        ("paynow_tool_attempt_duration_seconds_sum", ("tool", "getBalance")): 0.2,
        ("paynow_tool_fallbacks_total", ("on_failure", "block"), ("tool", "getBalance")): 1,
        ("paynow_rate_limited_total", ("kind", "customer")): 1,
        ("paynow_limiter_failures_total", ("action", "deny")): 1,
        ("paynow_store_statements_total", ("outcome", "ok"), ("step", "settle")): 1,
        ("paynow_store_statement_duration_seconds_count", ("step", "settle")): 1,
        ("paynow_store_unavailable_total",): 1,
        ("paynow_pool_open_connections",): 8,
        ("paynow_pool_busy_connections",): 3,
        ("paynow_pool_waiting_calls",): 1,
        ("paynow_events_delivered_total", ("sink", "log")): 5,
        ("paynow_event_delivery_failures_total", ("sink", "log")): 1,
        ("paynow_dead_letters_total", ("sink", "log")): 1,
        ("paynow_outbox_rows",): 7,
        ("paynow_outbox_oldest_seconds",): 1.5,
        ("paynow_completed_claims_total",): 2,
        ("paynow_expired_reservations_total",): 3,
        ("paynow_payees_behind_seconds",): 2.5,
    }
    assert {key: shown.get(key) for key in expected} == expected


@pytest.mark.parametrize(("state", "number"), [("closed", 0), ("half_open", 1), ("open", 2)])
def test_a_breakers_state_is_a_number(metrics, state, number) -> None:
    metrics.breaker_state("getBalance", state)
    assert value(metrics, "paynow_breaker_state", tool="getBalance") == number


def test_the_text_is_prometheus_own_without_series_that_nobody_reads(metrics) -> None:
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
    exposed = metrics.exposition().decode()
    assert "_created" not in exposed
    assert "# TYPE paynow_replays_total counter" in exposed


def test_the_summary_of_nothing(metrics) -> None:
    assert metrics.summary() == {
        "totalRequests": 0,
        "decisions": {"allow": 0, "review": 0, "block": 0},
        "p95Latency": 0.0,
        "routes": {},
        "tools": {},
    }


def test_the_summary_counts_requests_on_all_routes_but_the_probes(metrics) -> None:
    for route in ("/healthz", "/readyz", "/metrics"):
        metrics.request_finished(route, "GET", 200, 9.0)
    metrics.request_finished("/api/metrics", "GET", 200, 0.025)
    metrics.request_finished("unmatched", "GET", 404, 0.025)
    summary = metrics.summary()
    assert summary["totalRequests"] == 2
    assert summary["p95Latency"] < 30
    assert summary["routes"]["GET /healthz"]["count"] == 1


def test_the_summary_tells_latencies_by_route_in_milliseconds(metrics) -> None:
    for seconds in [0.005] * 90 + [0.07] * 9 + [0.5]:
        metrics.request_finished(DECIDE, "POST", 200, seconds)
    told = metrics.summary()["routes"][f"POST {DECIDE}"]
    assert told["count"] == 100
    assert 4 < told["p50Latency"] <= 6
    assert 60 < told["p95Latency"] <= 80
    assert told["p99Latency"] == 80


def test_the_summary_counts_decisions_and_attempts(metrics) -> None:
    metrics.payment_decided("allow", False, 0.01)
    metrics.payment_decided("block", True, 0.01)
    metrics.payment_decided("block", True, 0.01)
    for status in ("ok", "ok", "error", "timeout", "invalid", "skipped"):
        metrics.tool_attempt("getBalance", status, 0.0035)
    summary = metrics.summary()
    assert summary["decisions"] == {"allow": 1, "review": 0, "block": 2}
    assert summary["tools"] == {"getBalance": {"calls": 5, "failures": 3, "p95Latency": 3.95}}
