"""One function a route: from a request to a use case and back. Nothing is decided here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import orjson
from aiohttp import web

from paynow.clock import rfc3339
from paynow.errors import NotFound, Refusal, StoreUnavailable
from paynow.http import paging
from paynow.http.answers import JSON
from paynow.http.answers import json_answer as _json
from paynow.http.answers import path_id as _id
from paynow.http.body import read_json_object
from paynow.http.decide_request import KNOWN_FIELDS, read_decide_request
from paynow.http.middlewares import REQUEST_ID, TOLD
from paynow.http.rate_headers import rate_headers
from paynow.http.schemas import DECISIONS
from paynow.http.services import SERVICES
from paynow.money import to_text
from paynow.observability.metrics import CONTENT_TYPE
from paynow.payments.answer import payment_json, reservation_held
from paynow.payments.reservations import EndedReservation
from paynow.store.records import StoredPayment

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def decide(request: web.Request) -> web.Response:
    """`POST /api/payments/decide`: answers with the stored bytes."""
    document = await read_json_object(request, KNOWN_FIELDS)
    asked = read_decide_request(document, request.headers.getall("Idempotency-Key", []), request[REQUEST_ID])
    services = request.app[SERVICES]
    with services.gate:
        answer = await services.decide(asked)
    response = web.Response(body=answer.body, headers=JSON)
    if answer.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    elif answer.told is not None:
        request[TOLD] = answer.told
    if answer.limit is not None:
        response.headers.update(rate_headers(answer.limit))
    return response


async def payment(request: web.Request) -> web.Response:
    """`GET /api/payments/{paymentId}`."""
    stored = await request.app[SERVICES].store.payments.find(_id(request, "paymentId", "payment"))
    if stored is None:
        raise NotFound("There is no such payment")
    return _json(
        {**orjson.loads(stored.answer), **payment_json(stored.payment), "caseId": _text(stored.case_id), "reservation": _reservation(stored)}
    )


async def explanation(request: web.Request) -> web.Response:
    """`GET /api/payments/{paymentId}/explanation`."""
    explained = await request.app[SERVICES].explanations.of(_id(request, "paymentId", "payment"))
    if explained is None:
        raise NotFound("There is no such payment")
    return _json(explained)


async def payments_page(request: web.Request) -> web.Response:
    """`GET /api/payments`."""
    query = paging.read(request, filters={"customerId": (), "decision": DECISIONS})
    found = await request.app[SERVICES].store.payments.page(
        customer_id=query.filters.get("customerId"),
        decision=query.filters.get("decision"),
        before=paging.uuid_cursor(query.cursor),
        limit=query.limit + 1,
    )
    return _json(paging.page(found, query.limit, _summary, lambda stored: stored.payment.payment_id))


async def capture(request: web.Request) -> web.Response:
    """`POST /api/payments/{paymentId}/capture`."""
    return _ended(await request.app[SERVICES].reservations.end(_id(request, "paymentId", "payment"), "captured"))


async def release(request: web.Request) -> web.Response:
    """`POST /api/payments/{paymentId}/release`."""
    return _ended(await request.app[SERVICES].reservations.end(_id(request, "paymentId", "payment"), "released"))


async def account(request: web.Request) -> web.Response:
    """`GET /api/accounts/{customerId}`."""
    customer_id = request.match_info["customerId"]
    accounts = await request.app[SERVICES].store.payments.accounts(customer_id) if paging.is_id(customer_id) else []
    if not accounts:
        raise NotFound("There is no account of such a customer")
    balances = [
        {
            "currency": account.currency,
            "available": to_text(account.available_minor, account.currency),
            "reserved": to_text(account.reserved_minor, account.currency),
        }
        for account in accounts
    ]
    return _json({"customerId": customer_id, "balances": balances})


async def recent_events(request: web.Request) -> web.Response:
    """`GET /api/events/recent`."""
    recent = request.app[SERVICES].recent_events
    if recent is None:
        raise NotFound("The memory sink is not among events.sinks")
    query = paging.read(request, filters={})
    found = await recent.recent(query.limit + 1, paging.integer_cursor(query.cursor))
    return _json(paging.page(found, query.limit, lambda entry: dict(entry[1]), lambda entry: entry[0]))


async def metrics_summary(request: web.Request) -> web.Response:
    """`GET /api/metrics`."""
    return _json(await asyncio.to_thread(request.app[SERVICES].metrics.summary))  # takes milliseconds, which decisions should not wait for


async def metrics(request: web.Request) -> web.Response:
    """`GET /metrics`."""
    body = await asyncio.to_thread(request.app[SERVICES].metrics.exposition)  # as above
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


async def healthz(request: web.Request) -> web.Response:
    """`GET /healthz`: the process answers."""
    return _json({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """`GET /readyz`: the store answers and takes writes, and nobody has asked the process to stop. Without the rate limiter's store it is ready
    still: it answers what it can, and all processes would turn red at once."""
    services = request.app[SERVICES]
    if services.stopping:
        return _json({"status": "stopping"}, status=503)
    try:
        ready = await services.store.reads.ready()
    except Refusal as refusal:
        return _json({"status": refusal.code}, status=503)
    if not ready:
        return _json({"status": StoreUnavailable.code}, status=503)
    return _json({"status": "ok", "rateLimit": services.limit_state()})


def _text(value: UUID | None) -> str | None:
    return str(value) if value else None


def _reservation(stored: StoredPayment) -> dict[str, Any] | None:
    if stored.reservation is None or stored.reserved_until is None:
        return None
    reservation = {**reservation_held(stored.payment, stored.reserved_until), "status": stored.reservation}
    if stored.reservation_ended_at is not None:
        reservation["endedAt"] = rfc3339(stored.reservation_ended_at)
    return reservation


def _summary(stored: StoredPayment) -> dict[str, Any]:
    answer = orjson.loads(stored.answer)
    return {
        **payment_json(stored.payment),
        "decision": stored.decision,
        "reasons": answer["reasons"],
        "degraded": answer["degraded"],
        "caseId": _text(stored.case_id),
        "reservation": _reservation(stored),
        "decidedAt": answer["decidedAt"],
    }


def _ended(ended: EndedReservation) -> web.Response:
    facts = payment_json(ended.payment)
    return _json(
        {
            "paymentId": facts["paymentId"],
            "status": ended.state,
            "amount": facts["amount"],
            "currency": facts["currency"],
            "endedAt": rfc3339(ended.ended_at),
        }
    )
