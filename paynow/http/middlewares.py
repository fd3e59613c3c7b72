"""What every request passes, from the outside in: request id, access log, problem answers, authentication."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from secrets import token_hex

from aiohttp import web
from loguru import logger

from paynow.errors import InternalFault, MissingScope, OutcomeUnknown, Refusal, StoreUnavailable
from paynow.http.problems import from_http_exception, problem
from paynow.http.routing import ROUTE_TABLE, Route
from paynow.http.services import SERVICES
from paynow.observability.correlation import current_serving, request_context
from paynow.observability.spans import Span, Spans
from paynow.observability.trace_context import read_trace_context
from paynow.payments.decide import Told

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Middleware = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]

REQUEST_ID = web.RequestKey("request_id", str)
CALLER_ID = web.RequestKey("caller_id", str)
CALLER_SCOPES = web.RequestKey("caller_scopes", frozenset)
TOLD = web.RequestKey("told", Told)
"""What the handler adds to the request's line in the log: a decision and its request share one."""

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{8,64}\Z", re.ASCII)


def request_ids(*, follow_traceparent: bool = True) -> Middleware:
    """Takes the caller's request id if it is sane, else makes one; it stands in every log line and in the answer.

    `follow_traceparent` takes the caller's trace as well, if it names one (W3C Trace Context); its id then stands in every log line.
    """

    @web.middleware
    async def request_ids(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = request.headers
        given = headers.get("X-Request-Id", "")
        request_id = given if _SANE_REQUEST_ID.match(given) else token_hex(16)
        request[REQUEST_ID] = request_id
        trace = None
        if follow_traceparent and "traceparent" in headers:
            trace = read_trace_context(headers.getall("traceparent"), headers.getall("tracestate", []))
        with request_context(request_id, trace):
            response = await handler(request)
        response.headers["X-Request-Id"] = request_id
        return response

    return request_ids


def request_spans(spans: Spans) -> Middleware:
    """Records each request that belongs to a recorded trace: the caller's if there is one, else a new one."""

    @web.middleware
    async def request_spans(request: web.Request, handler: Handler) -> web.StreamResponse:
        serving = current_serving()
        assert serving is not None
        began_elsewhere = serving.trace is not None
        trace = serving.trace = serving.trace or spans.new_trace()
        if not trace.sampled:
            return await handler(request)
        with spans.request(_method(request, "_OTHER"), trace, began_elsewhere=began_elsewhere) as span:
            response = await handler(request)
            _describe(span, request, response)
            return response

    return request_spans


@web.middleware
async def access_log(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One line and one measurement a request: the route's template, never the path; of a payment that was decided, the decision."""
    began = time.perf_counter()
    response = await handler(request)
    seconds = time.perf_counter() - began
    route = route_of(request)
    template = route.path if route else "unmatched"
    request.app[SERVICES].metrics.request_finished(template, request.method, response.status, seconds)
    told = request.get(TOLD)
    method, duration_ms, key_id = _method(request), round(seconds * 1000, 2), request.get(CALLER_ID)
    if told is None:
        line = logger.bind(route=template, method=method, status=response.status, duration_ms=duration_ms, key_id=key_id)
        line.info("request answered")
    else:
        line = logger.bind(
            route=template,
            method=method,
            status=response.status,
            duration_ms=duration_ms,
            key_id=key_id,
            payment_id=told.payment_id,
            customer_id=told.customer_id,
            payee_id=told.payee_id,
            decision=told.decision,
            degraded=told.degraded,
            policy_version=told.policy_version,
        )
        line.info("payment decided")
    return response


@web.middleware
async def problem_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whatever is raised becomes a problem answer; what nobody foresaw is logged without its text and answered with 500."""
    try:
        return await handler(request)
    except Refusal as refusal:
        if isinstance(refusal, InternalFault):
            logger.bind(error=refusal.code).opt(exception=True).error("a request failed")
            refusal = InternalFault()  # its detail is for us, not for the caller
        if isinstance(refusal, (StoreUnavailable, OutcomeUnknown)):
            request.app[SERVICES].metrics.store_unavailable()
        response = problem(refusal, request[REQUEST_ID])
        if request.content.exception() is not None:
            # aiohttp closes a connection whose body it could not read. Unless that is said, the caller's next payment breaks on it.
            response.force_close()
        return response
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = problem(from_http_exception(error), request[REQUEST_ID])
        if allow := error.headers.get("Allow"):
            response.headers["Allow"] = allow
        return response
    except Exception as error:
        logger.bind(error=type(error).__name__).opt(exception=True).error("a request failed")
        return problem(InternalFault(), request[REQUEST_ID])


@web.middleware
async def authentication(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets through open routes, and callers whose key or token has the route's scope. What is not a route needs one too."""
    route = route_of(request)
    if route is not None and route.scope is None:
        return await handler(request)
    presented, bearer = _presented(request)
    caller = await request.app[SERVICES].keyring.authenticate(presented, bearer=bearer)
    request[CALLER_ID] = caller.key_id
    request[CALLER_SCOPES] = caller.scopes
    if route is not None and route.scope not in caller.scopes:
        raise MissingScope(f"The API key or token lacks the scope {route.scope}", scope=route.scope)
    return await handler(request)


def route_of(request: web.Request) -> Route | None:
    """The entry of the route table that the request matched, or None."""
    resource = request.match_info.route.resource
    method = "GET" if request.method == "HEAD" else request.method
    return ROUTE_TABLE.get((method, resource.canonical)) if resource is not None else None


def _presented(request: web.Request) -> tuple[str | None, bool]:
    """The key or token that the request carries, and whether it does so as a bearer's."""
    key = request.headers.get("X-API-Key")
    if key is not None:
        return key, False
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return (token.strip(), True) if kind.lower() == "bearer" else (None, False)


def _method(request: web.Request, otherwise: str = "other") -> str:
    return request.method if request.method in ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS") else otherwise


def _describe(span: Span, request: web.Request, response: web.StreamResponse) -> None:
    """The route's template and the decision; never what the caller sent."""
    told = span.attributes
    told["http.response.status_code"] = response.status
    if route := route_of(request):
        told["http.route"] = route.path
        span.name = f"{span.name} {route.path}"
    if decided := request.get(TOLD):
        told["paynow.payment.id"] = decided.payment_id
        told["paynow.decision"] = decided.decision
        told["paynow.degraded"] = decided.degraded
        told["paynow.policy.version"] = decided.policy_version
    if response.status >= 500:
        span.fail(str(response.status))
