"""Every route on one page: method, path, scope, and the forms of what goes in and comes out. Handlers stand in `handlers.py`, by name."""

from __future__ import annotations

from dataclasses import dataclass, field

from marshmallow import Schema

from paynow import errors
from paynow.errors import Refusal
from paynow.http import schemas


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter: its name, its meaning, and the words it may have (none: free text of a form that the meaning says)."""

    name: str
    doc: str
    words: tuple[str, ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """`scope` None means open to everyone. `answers` is the form of the 200; a `media_type` other than JSON has none.

    `refusals` are the route's own; `refusals_of` adds those that any route has. `not_ready` is the form of a 503 that is an answer and no problem.
    """

    name: str
    method: str
    path: str
    scope: str | None
    summary: str
    answers: type[Schema] | None = None
    takes: type[Schema] | None = None
    query: tuple[Parameter, ...] = ()
    refusals: tuple[type[Refusal], ...] = field(default=())
    media_type: str = "application/json"
    not_ready: type[Schema] | None = None


_CURSOR = Parameter("cursor", "`nextCursor` of the page before")
_LIMIT = Parameter("limit", "How many, 1 to 200; 50 if it is not said")
_READ = (errors.StoreUnavailable, errors.Overloaded)
_WRITE = (*_READ, errors.OutcomeUnknown)
# What the check of a key may end in. The store's refusals are among them, because that is where keys are kept.
_DOOR = (errors.NotAuthenticated, errors.MissingScope, errors.RateLimited, errors.LimiterUnavailable, *_READ)

ROUTES: tuple[Route, ...] = (
    Route(
        "decide",
        "POST",
        "/api/payments/decide",
        "payments:decide",
        "Decides whether a payment may move, once per customer and idempotency key; on allow the money is reserved",
        schemas.DecisionSchema,
        schemas.DecideSchema,
        refusals=(
            errors.InvalidRequest,
            errors.InFlight,
            errors.BodyTooLarge,
            errors.NotJson,
            errors.IdempotencyMismatch,
            errors.RateLimited,
            errors.LimiterUnavailable,
            *_WRITE,
        ),
    ),
    Route(
        "payments_page",
        "GET",
        "/api/payments",
        "payments:read",
        "A page of payments, newest first",
        schemas.PaymentPageSchema,
        query=(
            Parameter("customerId", "Only this customer's payments"),
            Parameter("decision", "Only payments with this decision", schemas.DECISIONS),
            _LIMIT,
            _CURSOR,
        ),
        refusals=(errors.InvalidRequest, *_READ),
    ),
    Route(
        "payment",
        "GET",
        "/api/payments/{paymentId}",
        "payments:read",
        "The decision with its trace, and its reservation as it stands now",
        schemas.StoredPaymentSchema,
        refusals=(errors.NotFound, *_READ),
    ),
    Route(
        "explanation",
        "GET",
        "/api/payments/{paymentId}/explanation",
        "payments:read",
        "Why the decision is what it is: the rules with their values, and what would have changed the verdict",
        schemas.ExplanationSchema,
        refusals=(errors.NotFound, *_READ),
    ),
    Route(
        "capture",
        "POST",
        "/api/payments/{paymentId}/capture",
        "payments:decide",
        "The money leaves: ends the reservation for its full amount; a repeat gives the same answer",
        schemas.EndedReservationSchema,
        refusals=(errors.NotFound, errors.ReservationEnded, errors.NotReserved, *_WRITE),
    ),
    Route(
        "release",
        "POST",
        "/api/payments/{paymentId}/release",
        "payments:decide",
        "The money goes back: ends the reservation for its full amount; a repeat gives the same answer",
        schemas.EndedReservationSchema,
        refusals=(errors.NotFound, errors.ReservationEnded, errors.NotReserved, *_WRITE),
    ),
    Route(
        "account",
        "GET",
        "/api/accounts/{customerId}",
        "accounts:read",
        "A customer's balances and reserved amounts",
        schemas.AccountSchema,
        refusals=(errors.NotFound, *_READ),
    ),
    Route(
        "cases_page",
        "GET",
        "/api/cases",
        "cases:read",
        "The review queue, newest first",
        schemas.CasePageSchema,
        query=(Parameter("status", "Only cases with this status", ("open", "claimed", "approved", "declined")), _LIMIT, _CURSOR),
        refusals=(errors.InvalidRequest, *_READ),
    ),
    Route(
        "case",
        "GET",
        "/api/cases/{caseId}",
        "cases:read",
        "One case",
        schemas.CaseSchema,
        refusals=(errors.NotFound, *_READ),
    ),
    Route(
        "recent_events",
        "GET",
        "/api/events/recent",
        "events:read",
        "The last events that this process delivered to its memory sink, newest first",
        schemas.EventPageSchema,
        query=(_LIMIT, _CURSOR),
        refusals=(errors.InvalidRequest, errors.NotFound),
    ),
    Route("metrics_summary", "GET", "/api/metrics", "metrics:read", "Figures since the process started", schemas.MetricsSchema),
    Route("metrics", "GET", "/metrics", "metrics:read", "Prometheus text exposition", media_type="text/plain"),
    Route("openapi", "GET", "/api/openapi.json", None, "This document"),
    Route("docs", "GET", "/docs", None, "A page that renders this document", media_type="text/html"),
    Route("docs_asset", "GET", "/docs/assets/{name}", None, "What that page is made of", refusals=(errors.NotFound,), media_type="text/javascript"),
    Route("error_page", "GET", "/docs/errors/{code}", None, "What an error code means", refusals=(errors.NotFound,), media_type="text/html"),
    Route("healthz", "GET", "/healthz", None, "Alive", schemas.HealthSchema),
    Route("readyz", "GET", "/readyz", None, "Able to decide: 200, or 503 while it is not", schemas.HealthSchema, not_ready=schemas.HealthSchema),
)

ROUTE_TABLE: dict[tuple[str, str], Route] = {(route.method, route.path): route for route in ROUTES}


def refusals_of(route: Route) -> list[type[Refusal]]:
    """Every refusal that the route may answer with, by status: its own, those of the door, and a fault of ours."""
    possible = {*route.refusals, *(_DOOR if route.scope is not None else ()), errors.InternalFault}
    return [refusal for refusal in errors.refusals() if refusal in possible]
