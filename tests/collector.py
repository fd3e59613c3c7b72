"""A collector of the tests': takes OTLP over HTTP as any does, and keeps what it was sent, as spans and as bytes. It answers all else, too."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class ReceivedSpan(NamedTuple):
    """One span as it came, its ids in hexadecimal digits; `links` are pairs of a trace's and a span's id, `of` is the resource."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    failed: bool
    took_s: float
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    trace_state: str
    of: dict[str, Any]


class Collector:
    """Listens from `start` on, at the same port again after `stop`. While `hangs` is set it answers nothing."""

    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        self.bodies: list[bytes] = []
        self.headers: list[Mapping[str, str]] = []
        self.asked: list[Mapping[str, str]] = []
        """The headers of all other requests."""
        self.hangs = threading.Event()
        self._ended = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if collector.hangs.is_set():
                    collector._ended.wait()
                    return
                if self.path == "/v1/traces":
                    collector._take(dict(self.headers.items()), body)
                self._answer()

            def do_GET(self) -> None:
                collector.asked.append({name.lower(): value for name, value in self.headers.items()})
                self._answer()

            def _answer(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - the name that the library calls it by
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self._ended.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def of(self, trace_id: str) -> list[ReceivedSpan]:
        """The spans of one trace."""
        return [span for span in list(self.spans) if span.trace_id == trace_id]

    def linked_to(self, trace_id: str) -> list[ReceivedSpan]:
        """The spans of other traces that are linked to it."""
        return [span for span in list(self.spans) if any(linked == trace_id for linked, _ in span.links)]

    def _take(self, headers: Mapping[str, str], body: bytes) -> None:
        self.headers.append(headers)
        self.bodies.append(body)
        for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _plain(sent.resource.attributes)
            self.spans += [_received(span, resource) for scope in sent.scope_spans for span in scope.spans]


def _received(span: Any, resource: dict[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        span.status.code == span.status.STATUS_CODE_ERROR,
        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        _plain(span.attributes),
        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        span.trace_state,
        resource,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}
