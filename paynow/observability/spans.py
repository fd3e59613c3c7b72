"""Spans: what took how long on the way of a request, made by hand where it happens. Knows neither where they go nor how they are sent.

Whoever may be traced holds a `Spans | None`: None is off, and costs nothing but the question. What a span says is on an allow-list
(`span_attributes.py`); names are templates and names of the configuration. Names and attributes follow OpenTelemetry's semantic conventions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Protocol

from paynow.observability.trace_context import TraceContext, new_span_id, new_trace_id

LINKS_MAX = 128
"""Of one span; a batch of more payments is linked to the first of them."""

INTERNAL, SERVER, CLIENT = "internal", "server", "client"

_BOUND = 2**64


class Span:
    """One piece of work in a recorded trace. Inside `with` it is what new spans of the same task, and of those begun there, belong to."""

    __slots__ = ("_ended", "_token", "attributes", "end_ns", "failed", "kind", "links", "name", "parent_id", "parent_is_remote", "place", "start_ns")

    def __init__(
        self,
        ended: Callable[[Span], None],
        name: str,
        kind: str,
        place: TraceContext,
        attributes: dict[str, Any],
        *,
        parent_id: str | None = None,
        parent_is_remote: bool = False,
        links: Sequence[TraceContext] = (),
    ) -> None:
        self._ended = ended
        self.name = name
        self.kind = kind
        self.place = place
        self.attributes = attributes
        self.parent_id = parent_id
        self.parent_is_remote = parent_is_remote
        self.links = links
        self.failed = False
        self.start_ns = time.time_ns()
        self.end_ns = 0

    def __enter__(self) -> Span:
        self._token: Token[Span | None] = _current.set(self)
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None) -> None:
        _current.reset(self._token)
        if error is not None:
            self.fail(getattr(error, "code", type(error).__name__))
        self.end()

    def enter_task(self) -> None:
        """Makes it the current one until the running task ends."""
        _current.set(self)

    def fail(self, kind: str) -> None:
        """It did not come to what it was for; `kind` is a code or the name of an exception's class, never a text."""
        self.failed = True
        self.attributes["error.type"] = kind

    def end(self, took_s: float | None = None) -> None:
        """It is over now, or was when it had taken so many seconds."""
        self.end_ns = time.time_ns() if took_s is None else self.start_ns + int(took_s * 1e9)
        self._ended(self)


_current: ContextVar[Span | None] = ContextVar("paynow_span", default=None)
_nothing: AbstractContextManager[None] = nullcontext()


def current_span() -> Span | None:
    """The span that the caller works in; None outside of recorded traces."""
    return _current.get()


class Publishing(Protocol):
    """`with publishing(sink, events):` around one delivery to a sink."""

    def __call__(self, sink: str, events: Sized) -> AbstractContextManager[Any]: ...


def untraced(sink: str, events: Sized) -> AbstractContextManager[Any]:
    """The `Publishing` of a service without traces."""
    return _nothing


class Spans:
    """Makes the spans of one process; `ended` is told each that is over, at once, on the event loop."""

    def __init__(self, ended: Callable[[Span], None], *, sample_ratio: float) -> None:
        """Of new traces the share `sample_ratio` is recorded; it hangs on the trace's id alone, as with OpenTelemetry's `TraceIdRatioBased`."""
        self._ended = ended
        self._below = round(sample_ratio * _BOUND)

    def new_trace(self) -> TraceContext:
        """A trace for a request that came without one."""
        trace_id = new_trace_id()
        return TraceContext(trace_id, new_span_id(), int(trace_id[16:], 16) < self._below)

    def request(self, method: str, trace: TraceContext, *, began_elsewhere: bool) -> Span:
        """The span of a request in a recorded trace, which somebody else may have begun. Named anew once its route is known."""
        attributes = {"http.request.method": method}
        place = TraceContext(trace.trace_id, new_span_id() if began_elsewhere else trace.span_id, True, trace.state)
        return Span(
            self._ended, method, SERVER, place, attributes, parent_id=trace.span_id if began_elsewhere else None, parent_is_remote=began_elsewhere
        )

    def tool(self, tool: str, attempt: int) -> Span | None:
        """One attempt at a tool; None where nothing is recorded."""
        return self._child(f"tool {tool}", INTERNAL, {"paynow.tool.name": tool, "paynow.tool.attempt": attempt})

    def step(self, step: str) -> AbstractContextManager[Span | None]:
        """A payment's claim or settle, its wait for a statement included."""
        return self._child(step, INTERNAL, {}) or _nothing

    def batch(self, step: str, rows: Sized, served: Iterable[Span | None]) -> AbstractContextManager[Span | None]:
        """One statement for many payments: a trace of its own, linked to the spans that wait for it. Recorded if one of those is."""
        links = [span.place for span in served if span is not None]
        if not links:
            return _nothing
        attributes = {"db.system.name": "postgresql", "db.operation.name": step, "db.operation.batch.size": len(rows)}
        return self._root(f"{step} batch", attributes, TraceContext(new_trace_id(), new_span_id(), True), links)

    def publish(self, sink: str, events: Sized) -> AbstractContextManager[Span | None]:
        """One delivery of events to a sink: a trace of its own, recorded as any new one."""
        place = self.new_trace()
        if not place.sampled:
            return _nothing
        attributes = {
            "messaging.system": sink,
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "messaging.batch.message_count": len(events),
        }
        return self._root(f"publish {sink}", attributes, place, ())

    def _root(self, name: str, attributes: dict[str, Any], place: TraceContext, links: Sequence[TraceContext]) -> Span:
        return Span(self._ended, name, CLIENT, place, attributes, links=links[:LINKS_MAX])

    def _child(self, name: str, kind: str, attributes: dict[str, Any]) -> Span | None:
        parent = _current.get()
        if parent is None:
            return None
        place = TraceContext(parent.place.trace_id, new_span_id(), True, parent.place.state)
        return Span(self._ended, name, kind, place, attributes, parent_id=parent.place.span_id)
