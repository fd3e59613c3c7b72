"""Every route on one page: method, path, scope, and the forms of what goes in and comes out. Handlers stand in `handlers.py`, by name."""

from __future__ import annotations

from dataclasses import dataclass, field

from marshmallow import Schema

from paynow import errors
from paynow.cases.vocabulary import LABELS, STATUSES
from paynow.errors import Refusal
from paynow.http import case_schemas, explanation_schemas, list_schemas, policy_schemas, schemas
from paynow.payments.listings import KINDS, LISTS


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
_CASE_WORK = (errors.NotFound, errors.CaseHeld, errors.CaseResolved, *_WRITE)
_CASE_TEXT = (errors.InvalidRequest, errors.NotFound, errors.BodyTooLarge, errors.NotJson, *_WRITE)
# What the check of a key or token may end in. The store's refusals are among them, because that is where keys are kept.
_DOOR = (
    errors.NotAuthenticated,
    errors.InvalidToken,
    errors.MissingScope,
    errors.RateLimited,
    errors.LimiterUnavailable,
    errors.SigningKeysUnavailable,
    *_READ,
)

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
        explanation_schemas.ExplanationSchema,
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
        "The review queue: newest first, or in the order of urgency",
        case_schemas.CasePageSchema,
        query=(
            Parameter("status", "Only cases with this status", STATUSES),
            Parameter("holder", "Only cases that this key has claimed"),
            Parameter("label", "Only cases with this label", LABELS),
            Parameter("currency", "Only cases in this currency"),
            Parameter("amountMin", "Only cases of at least this amount, in major units of `currency`, which is needed then"),
            Parameter("amountMax", "Only cases of at most this amount, as above"),
            Parameter("ageMin", "Only cases that were opened at least so long ago, such as `2h`"),
            Parameter("ageMax", "Only cases that were opened at most so long ago, such as `7d`"),
            Parameter("overdue", "`true`: only cases that are not resolved and past their due time", ("true", "false")),
            Parameter(
                "order",
                "`newest` first, if it is not said; `urgent`: what is not resolved, the highest priority first, then as it is due",
                ("newest", "urgent"),
            ),
            _LIMIT,
            _CURSOR,
        ),
        refusals=(errors.InvalidRequest, *_READ),
    ),
    Route(
        "case",
        "GET",
        "/api/cases/{caseId}",
        "cases:read",
        "One case with its history",
        case_schemas.CaseWithHistorySchema,
        refusals=(errors.NotFound, *_READ),
    ),
    Route(
        "claim_case",
        "POST",
        "/api/cases/{caseId}/claim",
        "cases:write",
        "The case is the acting key's, and nobody else resolves it meanwhile; a repeat by its holder changes nothing",
        case_schemas.CaseSchema,
        refusals=_CASE_WORK,
    ),
    Route(
        "unclaim_case",
        "POST",
        "/api/cases/{caseId}/unclaim",
        "cases:write",
        "The case is open again: by its holder, or by a key that has the scope cases:admin too",
        case_schemas.CaseSchema,
        refusals=_CASE_WORK,
    ),
    Route(
        "approve_case",
        "POST",
        "/api/cases/{caseId}/approve",
        "cases:write",
        "The payment may move: its money is reserved now; by the case's holder, or by anybody while it is open; a repeat gives the same answer",
        case_schemas.CaseSchema,
        refusals=(errors.InsufficientFunds, *_CASE_WORK),
    ),
    Route(
        "decline_case",
        "POST",
        "/api/cases/{caseId}/decline",
        "cases:write",
        "The payment does not move; by the case's holder, or by anybody while it is open; a repeat gives the same answer",
        case_schemas.CaseSchema,
        refusals=_CASE_WORK,
    ),
    Route(
        "note_case",
        "POST",
        "/api/cases/{caseId}/note",
        "cases:write",
        "Adds a note to the case's history, at any time; the same note by the same key right after is the same note",
        case_schemas.CaseSchema,
        case_schemas.NoteSchema,
        refusals=_CASE_TEXT,
    ),
    Route(
        "label_case",
        "POST",
        "/api/cases/{caseId}/label",
        "cases:write",
        "Says what the case turned out to be, at any time; the last label counts",
        case_schemas.CaseSchema,
        case_schemas.LabelSchema,
        refusals=_CASE_TEXT,
    ),
    Route(
        "lists_page",
        "GET",
        "/api/lists",
        "lists:read",
        "The allow and block lists, what has expired too, by kind, id and list",
        list_schemas.ListingPageSchema,
        query=(
            Parameter("kind", "Only entries of this kind", KINDS),
            Parameter("id", "Only entries of this customer or payee"),
            Parameter("list", "Only entries of this list", LISTS),
            _LIMIT,
            _CURSOR,
        ),
        refusals=(errors.InvalidRequest, *_READ),
    ),
    Route(
        "put_listing",
        "PUT",
        "/api/lists/{kind}/{id}/{list}",
        "lists:write",
        "Puts a customer or payee on a list, or renews its reason and expiry; the next payment sees it",
        list_schemas.ListingSchema,
        list_schemas.PutListingSchema,
        refusals=(errors.InvalidRequest, errors.NotFound, errors.BodyTooLarge, errors.NotJson, *_WRITE),
    ),
    Route(
        "remove_listing",
        "DELETE",
        "/api/lists/{kind}/{id}/{list}",
        "lists:write",
        "Takes a customer or payee off a list; a repeat changes nothing",
        list_schemas.RemovedListingSchema,
        refusals=(errors.InvalidRequest, errors.NotFound, *_WRITE),
    ),
    Route(
        "proposals_page",
        "GET",
        "/api/policies/proposals",
        "policies:read",
        "The policies that were proposed to be the active one, newest first",
        policy_schemas.ProposalPageSchema,
        query=(_LIMIT, _CURSOR),
        refusals=(errors.InvalidRequest, *_READ),
    ),
    Route(
        "propose_policy",
        "POST",
        "/api/policies/proposals",
        "policies:write",
        "Proposes a policy in place of the active one, if it is right: another key has to approve it; a repeat changes nothing",
        policy_schemas.ProposalSchema,
        policy_schemas.ProposeSchema,
        refusals=(errors.InvalidRequest, errors.BodyTooLarge, errors.NotJson, errors.ProposalClosed, *_WRITE),
    ),
    Route(
        "proposal",
        "GET",
        "/api/policies/proposals/{version}",
        "policies:read",
        "The last proposal of a version with its text",
        policy_schemas.ProposalWithTextSchema,
        refusals=(errors.NotFound, *_READ),
    ),
    Route(
        "approve_proposal",
        "POST",
        "/api/policies/proposals/{version}/approve",
        "policies:write",
        "The proposed policy is the active one from now on; by another key than the one that proposed it; a repeat gives the same answer",
        policy_schemas.ProposalSchema,
        refusals=(errors.NotFound, errors.OwnProposal, errors.ProposalClosed, *_WRITE),
    ),
    Route(
        "refuse_proposal",
        "POST",
        "/api/policies/proposals/{version}/refuse",
        "policies:write",
        "The proposed policy does not become the active one; by whichever key; a repeat gives the same answer",
        policy_schemas.ProposalSchema,
        refusals=(errors.NotFound, errors.ProposalClosed, *_WRITE),
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
    Route("events_schema", "GET", "/api/events/schema.json", None, "The JSON Schema of events"),
    Route("metrics_summary", "GET", "/api/metrics", "metrics:read", "Figures since the process started", schemas.MetricsSchema),
    Route("metrics", "GET", "/metrics", "metrics:read", "Prometheus text exposition", media_type="text/plain"),
    Route("openapi", "GET", "/api/openapi.json", None, "This document"),
    Route("asyncapi", "GET", "/api/asyncapi.json", None, "By which ways events leave, and what they look like: an AsyncAPI document"),
    Route("docs", "GET", "/docs", None, "A page that renders this document", media_type="text/html"),
    Route("docs_asset", "GET", "/docs/assets/{name}", None, "What that page is made of", refusals=(errors.NotFound,), media_type="text/javascript"),
    Route("error_page", "GET", "/docs/errors/{code}", None, "What an error code means", refusals=(errors.NotFound,), media_type="text/html"),
    Route("healthz", "GET", "/healthz", None, "Alive", schemas.HealthSchema),
    Route("readyz", "GET", "/readyz", None, "Able to decide: 200, or 503 while it is not", schemas.ReadinessSchema, not_ready=schemas.HealthSchema),
)

ROUTE_TABLE: dict[tuple[str, str], Route] = {(route.method, route.path): route for route in ROUTES}


def refusals_of(route: Route) -> list[type[Refusal]]:
    """Every refusal that the route may answer with, by status: its own, those of the door, and a fault of ours."""
    possible = {*route.refusals, *(_DOOR if route.scope is not None else ()), errors.InternalFault}
    return [refusal for refusal in errors.refusals() if refusal in possible]
