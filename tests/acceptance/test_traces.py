"""Traces through the real door, to a collector that reads what OpenTelemetry's exporter sends: the tree of a decision, the links of its batches,
whose word counts on what is recorded, and that nobody's data are in it."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from canaries import heard
from collector import Collector, ReceivedSpan
from commands import paynow
from paynow.app import check
from paynow.errors import ConfigurationRefused
from paynow.observability.span_attributes import ALLOWED
from paynow.settings.load import load
from service import API_KEY, UNLIMITED, RunningService, body, open_account, running
from waiting import eventually, eventually_async, meanwhile

DECIDE = "/api/payments/decide"
CANARY = "canary4539578763621486x"
SECRET = "the-word-of-the-collector"
SERVER, CLIENT, INTERNAL = 2, 3, 1

REGISTER = """
from paynow.plugin_api import Effect, Tool, ToolError, flag, hookimpl

async def call(context):
    if context.payment.payee_id.startswith("p_fails"):
        raise ToolError("register_is_down")
    async with context.http.get({url!r}) as response:
        return {{"fine": response.status == 200}}

@hookimpl
def paynow_register_tools(settings):
    return [Tool("askRegister", Effect.READ, {{"fine": flag()}}, call)]
"""
CONFIG = """
[plugins]
enabled = ["get_balance", "get_risk_signals", "create_case", "register"]
[agent]
plan = ["getBalance", "getRiskSignals", "askRegister"]
[agent.tools.askRegister]
backoff_ms = 1
[telemetry]
traces = "otlp"
sample_ratio = 0.0
"""
"""Nothing is recorded of its own accord: what is recorded, a caller's trace has asked for."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.stop()


@pytest.fixture(scope="module")
def traced(module_database: str, tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[RunningService]:
    """A service whose own tool asks the collector for something, too."""
    folder = tmp_path_factory.mktemp("traced")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "register.py").write_text(REGISTER.format(url=f"{collector.url}/register"))
    (folder / "paynow.toml").write_text(CONFIG)
    (folder / "headers").write_text(f"authorization=Bearer%20{SECRET}")
    environ = {**UNLIMITED, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_HEADERS_FILE": "headers"}
    with running(module_database, folder, environ, arguments=("--config", "paynow.toml")) as started:
        yield started


def parent(trace_id: str, *, sampled: bool = True) -> str:
    return f"00-{trace_id}-00000000000000ab-{'01' if sampled else '00'}"


async def decide(service: RunningService, customer: str, traceparent: str | None = None, **more: object) -> int:
    headers = {"traceparent": traceparent} if traceparent else {}
    async with service.client(**headers) as client, client.post(DECIDE, json=body(customer, **more)) as response:
        return response.status


async def tree(collector: Collector, trace_id: str) -> dict[str, list[ReceivedSpan]]:
    """The spans of a trace whose request has been sent, by name: a request ends last."""
    await meanwhile(lambda: any(span.kind == SERVER for span in collector.of(trace_id)))
    found: dict[str, list[ReceivedSpan]] = {}
    for span in collector.of(trace_id):
        found.setdefault(span.name, []).append(span)
    return found


async def test_one_decision_is_one_tree_below_the_callers_span(traced: RunningService, collector: Collector) -> None:
    open_account(traced.dsn, "c_tree", 10_000)
    trace_id = token_hex(16)
    assert await decide(traced, "c_tree", parent(trace_id)) == 200
    spans = await tree(collector, trace_id)
    assert set(spans) == {f"POST {DECIDE}", "claim", "settle", "tool getBalance", "tool getRiskSignals", "tool askRegister"}
    (request,) = spans.pop(f"POST {DECIDE}")
    (line,) = [line for line in traced.lines("payment decided") if line.get("trace_id") == trace_id]
    assert (request.kind, request.parent_id, request.failed) == (SERVER, "00000000000000ab", False)
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": DECIDE,
        "http.response.status_code": 200,
        "paynow.payment.id": line["payment_id"],
        "paynow.decision": "allow",
        "paynow.degraded": False,
        "paynow.policy.version": line["policy_version"],
    }
    assert {span.parent_id for (span,) in spans.values()} == {request.span_id}
    assert all(0 <= span.took_s <= request.took_s for (span,) in spans.values())
    (tool,) = spans["tool getBalance"]
    assert tool.attributes == {"paynow.tool.name": "getBalance", "paynow.tool.attempt": 1, "paynow.tool.status": "ok"}
    assert [spans[step][0].attributes for step in ("claim", "settle")] == [{"paynow.outcome": "claimed"}, {"paynow.outcome": "settled"}]
    assert request.of["service.name"] == "paynow"
    assert collector.headers[-1]["authorization"] == f"Bearer {SECRET}"


async def test_each_batch_is_a_trace_of_its_own_that_links_to_the_payments_in_it(traced: RunningService, collector: Collector) -> None:
    traces = {token_hex(16): f"c_batch_{number}" for number in range(24)}
    for customer in traces.values():
        open_account(traced.dsn, customer, 10_000)
    answers = await asyncio.gather(*(decide(traced, customer, parent(trace_id)) for trace_id, customer in traces.items()))
    assert set(answers) == {200}
    steps = {name: [] for name in ("claim", "settle")}
    for trace_id in traces:
        spans = await tree(collector, trace_id)
        for name, waited in steps.items():
            waited += [(span.trace_id, span.span_id) for span in spans[name]]
    for name, waited in steps.items():
        batches = {span.span_id: span for trace_id in traces for span in collector.linked_to(trace_id) if span.name == f"{name} batch"}.values()
        assert sorted(link for batch in batches for link in batch.links) == sorted(waited), "each payment is in one batch"
        assert len(batches) < len(traces), "none of them shared a statement"
        assert {(batch.kind, batch.parent_id, batch.trace_id in traces) for batch in batches} == {(CLIENT, "", False)}
        for batch in batches:
            told = {"db.system.name": "postgresql", "db.operation.name": name, "db.operation.batch.size": len(batch.links)}
            assert batch.attributes == told


async def test_each_attempt_at_a_tool_has_its_span_and_a_failure_its_code(traced: RunningService, collector: Collector) -> None:
    open_account(traced.dsn, "c_fails", 10_000)
    trace_id = token_hex(16)
    assert await decide(traced, "c_fails", parent(trace_id), payeeId="p_fails") == 200
    spans = await tree(collector, trace_id)
    attempts = [(span.attributes["paynow.tool.attempt"], span.attributes["error.type"], span.failed) for span in spans["tool askRegister"]]
    assert sorted(attempts) == [(number, "register_is_down", True) for number in (1, 2, 3)]
    (request,) = spans[f"POST {DECIDE}"]
    assert (request.attributes["paynow.decision"], request.attributes["paynow.degraded"], request.failed) == ("review", True, False)


async def test_a_callers_word_that_nothing_is_recorded_is_followed_and_passed_on(traced: RunningService, collector: Collector) -> None:
    open_account(traced.dsn, "c_flag", 10_000)
    quiet, told = token_hex(16), token_hex(16)
    assert await decide(traced, "c_flag", parent(quiet, sampled=False)) == 200
    assert await decide(traced, "c_flag", parent(told), key="k-2") == 200
    await tree(collector, told)
    assert collector.of(quiet) == []
    assert collector.linked_to(quiet) == []
    assert [line["trace_id"] for line in traced.lines("payment decided")][-2:] == [quiet, told]
    assert parent(quiet, sampled=False) in [asked.get("traceparent") for asked in collector.asked]


async def test_what_a_tool_asks_over_http_belongs_to_its_attempt(traced: RunningService, collector: Collector) -> None:
    open_account(traced.dsn, "c_http", 10_000)
    trace_id = token_hex(16)
    headers = {"traceparent": parent(trace_id), "tracestate": "vendor=a1, other@place=b2"}
    async with traced.client(**headers) as client, client.post(DECIDE, json=body("c_http")) as response:
        assert response.status == 200
    (attempt,) = (await tree(collector, trace_id))["tool askRegister"]
    (asked,) = [asked for asked in collector.asked if trace_id in asked.get("traceparent", "")]
    assert asked["traceparent"] == f"00-{trace_id}-{attempt.span_id}-01"
    assert asked["tracestate"] == "vendor=a1,other@place=b2"


@pytest.mark.parametrize("headers", [{}, {"traceparent": f"00-{'0' * 32}-00000000000000ab-01"}, {"traceparent": "nonsense"}])
async def test_without_a_valid_traceparent_a_request_has_a_new_trace(traced: RunningService, headers: dict[str, str]) -> None:
    async with traced.client(**headers) as client, client.get("/healthz") as response:
        request_id = response.headers["X-Request-Id"]
    line = (await meanwhile(lambda: [line for line in traced.lines("request answered") if line["request_id"] == request_id]))[0]
    assert len(line["trace_id"]) == 32
    assert line["trace_id"] not in str(headers)


async def test_nothing_that_a_caller_sends_is_in_any_byte_that_leaves(traced: RunningService, collector: Collector) -> None:
    open_account(traced.dsn, CANARY, 1_000_000_000)
    trace_id = token_hex(16)
    headers = {"traceparent": parent(trace_id), "tracestate": f"vendor={CANARY}", "User-Agent": CANARY, "Cookie": CANARY, "X-Request-Id": CANARY}
    sent = body(CANARY, "773188.31", f"{CANARY}-key", payeeId=f"{CANARY}.payee")
    last = token_hex(16)
    async with traced.client(**headers) as client:
        for document in (
            sent,
            {**sent, "payeeId": f"p_fails{CANARY}", "idempotencyKey": f"{CANARY}-2"},
            {**sent, "amount": "773188.32"},
            {CANARY: CANARY},
        ):
            await (await client.post(DECIDE, json=document)).read()
        for path in (f"/api/accounts/{CANARY}", f"/{CANARY}", f"/api/payments?customerId={CANARY}", f"/api/payments/{CANARY}"):
            await (await client.request("GET", path)).read()
        await (await client.request(CANARY.upper(), "/healthz")).read()
        await (await client.get("/healthz", headers={"traceparent": parent(last)})).read()
    await tree(collector, last)
    assert len([span for span in collector.of(trace_id) if span.kind == SERVER]) == 8
    told = b"".join(collector.bodies)
    assert heard([CANARY, "773188", API_KEY], told.decode("latin-1")) == []
    assert {name for span in collector.spans for name in span.attributes} <= set(ALLOWED)


async def test_a_collector_that_is_down_costs_spans_and_nothing_else(database: str, tmp_path: Path) -> None:
    collector = Collector()
    collector.stop()
    environ = {
        **UNLIMITED,
        "PAYNOW_TELEMETRY__TRACES": "otlp",
        "PAYNOW_TELEMETRY__ENDPOINT": collector.url,
        "PAYNOW_TELEMETRY__SERVICE_NAME": "deciders",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5",  # seconds; a test would wait for the end of tries that go on for longer
    }
    service = RunningService(database, tmp_path, environ, arguments=("--workers", "2"))
    try:
        open_account(database, "c_1", 1_000_000)
        keys = itertools.count()

        async def dropped() -> float:
            async with service.client() as client, client.get("/metrics") as response:
                counted = re.search(r'^paynow_spans_dropped_total{why="not_delivered"} (.+)$', await response.text(), re.MULTILINE)
                return float(counted[1]) if counted else 0.0

        async def decided_until(seen: Callable[[float], bool]) -> None:
            async def asked() -> bool:
                assert await decide(service, "c_1", key=f"k-{next(keys)}") == 200
                return seen(await dropped())

            await eventually_async(asked, within_s=20)

        def workers_that_told(event: str) -> list[int]:
            return sorted(line["worker"] for line in service.lines(event))

        await decided_until(lambda _: workers_that_told("the collector takes no spans, they are dropped until it does") == [1, 2])
        before = await dropped()
        await decided_until(lambda now: now > before)  # both workers' first has failed: one has failed again
        collector.start()
        await decided_until(lambda _: workers_that_told("the collector takes spans again") == [1, 2])
        assert workers_that_told("the collector takes no spans, they are dropped until it does") == [1, 2], "each has told it once"
        assert {span.of["service.name"] for span in collector.spans} == {"deciders"}
        assert len({span.of["service.instance.id"] for span in collector.spans}) == 2
    finally:
        code = service.stop()
        collector.stop()
    assert code == 0


async def test_the_end_of_a_service_does_not_wait_for_a_collector_that_hangs(database: str, tmp_path: Path) -> None:
    collector = Collector()
    collector.hangs.set()
    environ = {**UNLIMITED, "PAYNOW_TELEMETRY__TRACES": "otlp", "PAYNOW_TELEMETRY__ENDPOINT": collector.url}
    try:
        with running(database, tmp_path, environ) as service:
            open_account(database, "c_1", 1_000_000)
            assert await decide(service, "c_1") == 200
            began_s = time.monotonic()
        took_s = time.monotonic() - began_s
    finally:
        collector.stop()
    assert took_s < 7, "a collector has ten seconds to take spans, the end of a service has not"


LOOKS = """
import sys
from paynow.plugin_api import Effect, Tool, flag, hookimpl

async def call(context):
    return {"loaded": any(name.partition(".")[0] == "opentelemetry" for name in sys.modules)}

@hookimpl
def paynow_register_tools(settings):
    return [Tool("look", Effect.READ, {"loaded": flag()}, call)]
"""


async def test_a_service_without_traces_loads_nothing_of_opentelemetry_and_logs_the_callers_trace_all_the_same(plugin_service) -> None:
    config = '[plugins]\nenabled = ["get_balance", "get_risk_signals", "create_case", "looks"]\n[agent]\nplan = ["getBalance", "look"]\n'
    service = plugin_service({"looks": LOOKS}, config)
    open_account(service.dsn, "c_1", 10_000)
    trace_id = token_hex(16)
    async with service.client(traceparent=parent(trace_id)) as client, client.post(DECIDE, json=body()) as response:
        answer = await response.json()
    (loaded,) = [step["output"]["loaded"] for step in answer["agentTrace"] if step.get("tool") == "look"]
    assert loaded is False
    eventually(lambda: [line for line in service.lines("payment decided") if line.get("trace_id") == trace_id])


HIDES = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
"""


def test_traces_without_their_packages_stop_the_start_and_say_which_extra_to_install(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDES)
    (tmp_path / "paynow.toml").write_text('[telemetry]\ntraces = "otlp"\n')
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    ended = paynow(tmp_path, None, "config", "check", "--config", "paynow.toml", PYTHONPATH=path)
    assert ended.code == 2
    assert "paynow.toml:2: telemetry.traces: otlp needs packages that are not installed: pip install 'paynow[otel]'" in ended.err


def test_headers_for_the_collector_that_are_none_stop_the_start_without_being_repeated() -> None:
    environ = {"PAYNOW_TELEMETRY__TRACES": "otlp", "LOG_HASH_KEY": "the-hash-key-of-the-tests", "OTEL_EXPORTER_OTLP_HEADERS": f"a=b,{SECRET}"}
    with pytest.raises(ConfigurationRefused) as refused:
        check(load(None, environ))
    assert [str(fault) for fault in refused.value.faults] == [
        "environment OTEL_EXPORTER_OTLP_HEADERS: OTEL_EXPORTER_OTLP_HEADERS: expected headers like name=value,other=value"
    ]
