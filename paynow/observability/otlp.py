"""Sends spans to a collector with OpenTelemetry's SDK: OTLP over HTTP, protobuf, on a thread of its own. The one place that knows the SDK.

A span is put aside as it is and becomes the SDK's on that thread: a tracer of the SDK's would cost a decision more than all that PayNow does for it.
A collector that is slow or gone costs spans and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread
from typing import Any, Protocol
from uuid import uuid4

from loguru import logger
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.re import parse_env_headers

from paynow import __version__
from paynow.observability.span_attributes import written
from paynow.observability.spans import CLIENT, INTERNAL, SERVER, Span
from paynow.observability.trace_context import TraceContext
from paynow.settings.model import TelemetrySettings

QUEUE_MAX = 8_192
"""Spans that wait to be sent; those that find no room are dropped and counted."""

BATCH_MAX = 512
EVERY_MS = 1_000
FLUSH_WITHIN_S = 2.0
"""How long the end of the process waits for what is left."""

PATH = "/v1/traces"

_KINDS = {INTERNAL: SpanKind.INTERNAL, SERVER: SpanKind.SERVER, CLIENT: SpanKind.CLIENT}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope("paynow", __version__)
_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)


class Meters(Protocol):
    """What is counted of spans."""

    def spans_delivered(self, count: int) -> None:
        """A collector took them."""

    def spans_dropped(self, why: str, count: int) -> None:
        """They are gone: the queue was full (`queue_full`), or the collector did not take them (`not_delivered`)."""


class Delivery:
    """Takes the spans of one process that have ended: `take`, then `close` once. Made in the process that ends them: it has a thread."""

    def __init__(self, settings: TelemetrySettings, headers: str | None, metrics: Meters) -> None:
        """`headers` go with every request to the collector: `name=value,other=value`. What the settings leave open, the variables
        `OTEL_EXPORTER_OTLP_…`, `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say, and then the SDK."""
        # What the SDK has to say of failures comes with every batch; here it is said once, and counted.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = OTLPSpanExporter(
            endpoint=settings.endpoint.removesuffix("/") + PATH if settings.endpoint else None,
            headers=parse_env_headers(headers or "", liberal=True),
        )
        self._metrics = metrics
        self._sender = _Sender(exporter, _resource(settings.service_name), metrics)
        self._processor = BatchSpanProcessor(self._sender, max_queue_size=QUEUE_MAX, schedule_delay_millis=EVERY_MS, max_export_batch_size=BATCH_MAX)
        self._taken = 0

    def take(self, span: Span) -> None:
        """Puts it aside, or drops it if there is no room. Called on the event loop's thread only."""
        if self._taken - self._sender.seen >= QUEUE_MAX:
            self._metrics.spans_dropped("queue_full", 1)
            return
        self._taken += 1
        self._processor.on_end(_Waiting(span))  # type: ignore[arg-type]  # it asks of a span only whether it is sampled

    async def close(self) -> None:
        """Sends what is left, within `FLUSH_WITHIN_S`; what is not sent then is lost."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def end() -> None:
            self._processor.shutdown()
            with suppress(RuntimeError):  # the loop did not wait so long
                loop.call_soon_threadsafe(ended.set)

        # A thread that nobody waits for at the end of the process, as the loop's own would be.
        Thread(target=end, name="paynow-last-spans", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_WITHIN_S):
                await ended.wait()


class _Waiting:
    """A span that waits to be sent, as the SDK's queue wants to see it."""

    __slots__ = ("span",)
    context = SpanContext(1, 1, is_remote=False, trace_flags=_SAMPLED)

    def __init__(self, span: Span) -> None:
        self.span = span


class _Sender(SpanExporter):
    """Runs on the SDK's thread. Says once that a collector takes nothing, and once that it does again."""

    def __init__(self, exporter: OTLPSpanExporter, resource: Resource, metrics: Meters) -> None:
        self.seen = 0
        self._exporter = exporter
        self._resource = resource
        self._metrics = metrics
        self._fails = False

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        self.seen += len(spans)
        result = self._exporter.export([_readable(waiting.span, self._resource) for waiting in spans])
        if result is SpanExportResult.SUCCESS:
            self._metrics.spans_delivered(len(spans))
            self._told(fails=False)
        else:
            self._metrics.spans_dropped("not_delivered", len(spans))
            self._told(fails=True)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def _told(self, *, fails: bool) -> None:
        if fails and not self._fails:
            logger.warning("the collector takes no spans, they are dropped until it does")
        elif self._fails and not fails:
            logger.info("the collector takes spans again")
        self._fails = fails


class _Resource(Resource):
    """Hashed by itself: the SDK hashes it for each span, as JSON, which would take a fifth of what a span costs."""

    def __hash__(self) -> int:
        return id(self)


def _resource(service_name: str) -> Resource:
    """Who speaks. A name that is set outweighs the environment's, and that outweighs ours."""
    found = Resource.create({"service.version": __version__, "service.instance.id": str(uuid4())})
    name = service_name or found.attributes["service.name"]
    return _Resource({**found.attributes, "service.name": "paynow" if str(name).startswith("unknown_service") else name})


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    place = span.place
    parent = None
    if span.parent_id is not None:
        parent = SpanContext(int(place.trace_id, 16), int(span.parent_id, 16), span.parent_is_remote, _SAMPLED)
    return ReadableSpan(
        span.name,
        _context(place),
        parent,
        resource,
        written(span.attributes),
        links=[Link(_context(linked)) for linked in span.links],
        kind=_KINDS[span.kind],
        status=_ERROR if span.failed else _UNSET,
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=_SCOPE,
    )


def _context(place: TraceContext) -> SpanContext:
    """`tracestate` stays out: a caller writes there what it likes."""
    return SpanContext(int(place.trace_id, 16), int(place.span_id, 16), is_remote=False, trace_flags=_SAMPLED)
