"""Everything that PayNow says no with: one small tree, each error with its HTTP status, stable code and whether a retry helps.

    PayNowError
    ├── Refusal                     what a caller is told, as an RFC 9457 problem
    │   ├── InvalidRequest      400 invalid_request         a field is wrong, or the body is not JSON
    │   ├── InvalidToken        401 invalid_token           a bearer token that is not accepted
    │   ├── NotAuthenticated    401 not_authenticated       no valid key
    │   ├── MissingScope        403 missing_scope           a key or token without the scope
    │   ├── OwnProposal         403 own_proposal            a key may not approve what it has proposed
    │   ├── NotFound            404 not_found
    │   ├── MethodNotAllowed    405 method_not_allowed
    │   ├── CaseHeld            409 case_held               another key has claimed the case
    │   ├── CaseResolved        409 case_resolved           the case was approved or declined before
    │   ├── InFlight            409 in_flight               the same key is still being decided
    │   ├── InsufficientFunds   409 insufficient_funds      a case cannot be approved, the money is not there
    │   ├── ProposalClosed      409 proposal_closed         the proposed policy cannot be approved or refused any more
    │   ├── ReservationEnded    409 reservation_ended       the reservation has ended the other way
    │   ├── NotReserved         409 not_reserved            the payment holds no money
    │   ├── BodyTooLarge        413 body_too_large
    │   ├── NotJson             415 unsupported_media_type
    │   ├── IdempotencyMismatch 422 idempotency_mismatch    the same key with another body
    │   ├── RateLimited         429 rate_limited
    │   ├── InternalFault       500 internal                a fault of ours
    │   ├── StoreUnavailable    503 store_unavailable       the statement was not carried out
    │   ├── OutcomeUnknown      503 outcome_unknown         a statement may or may not have been carried out
    │   ├── LimiterUnavailable  503 limiter_unavailable     the rate limiter's store is down, and the setting says deny
    │   ├── SigningKeysUnavailable 503 signing_keys_unavailable  there is nothing to check a token with
    │   └── Overloaded          503 overloaded              a bounded queue is full
    └── ConfigurationRefused        what stops the boot: all faults at once

The docstring of each refusal is the text of the page that its `type` leads to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class PayNowError(Exception):
    """The root; never raised itself."""


@dataclass(frozen=True, slots=True)
class FieldFault:
    """One thing that is wrong with one field of a request; `message` says what was expected and how to mend it."""

    field: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class LimitState:
    """A limit (`name` is `customer` or `api_key`) and what is left of it; `reset_s` is when it is whole again."""

    name: str
    per_second: float
    burst: int
    remaining: int
    reset_s: float


class Refusal(PayNowError):
    """A request ends without the answer it asked for. `detail` is safe to show: it never repeats what the caller sent."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str = "", *, errors: Sequence[FieldFault] = (), retry_after_s: float | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s


class InvalidRequest(Refusal):
    """The body is not JSON, or one of its fields is wrong. `errors` names each field and says what was expected.
    Nothing was stored. Mend the fields and send the request again; the same idempotency key may be used."""

    status, code, title = 400, "invalid_request", "The request is not valid"


class InvalidToken(Refusal):
    """The bearer token is not accepted: it is no token, its signature is not that of the identity provider, it has expired or does not count yet,
    or it is for somebody else. If its signature was right, the detail says which claim was not. Get a new one and ask again with it."""

    status, code, title = 401, "invalid_token", "The bearer token is not accepted"


class NotAuthenticated(Refusal):
    """No API key was sent, or it is unknown, expired, revoked or mistyped.
    Send it as `X-API-Key: pn_…` or `Authorization: Bearer pn_…`. `paynow keys create` makes one. Where tokens of an identity provider are taken
    (`auth.jwt.jwks_url`), one may be sent instead, as `Authorization: Bearer …`."""

    status, code, title = 401, "not_authenticated", "A valid API key is needed"


class MissingScope(Refusal):
    """The API key or token is valid but lacks the scope that this route asks for.
    The detail names the scope; `paynow keys create --scopes …` makes a key that has it, the identity provider a token."""

    status, code, title = 403, "missing_scope", "The API key or token lacks the scope"

    def __init__(self, detail: str = "", *, scope: str | None = None) -> None:
        super().__init__(detail)
        self.scope = scope


class OwnProposal(Refusal):
    """The key that has proposed a policy cannot approve it: another key has to. Nothing was changed."""

    status, code, title = 403, "own_proposal", "Another key has to approve the policy"


class NotFound(Refusal):
    """There is no such route, payment, account, case, list entry or proposed policy."""

    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(Refusal):
    """The route exists but not with this method. The header `Allow` lists those it has."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class CaseHeld(Refusal):
    """Another API key has claimed the case: `heldBy` is its id. Nothing was changed. It can be claimed when that key, or one with the scope
    `cases:admin`, unclaims it."""

    status, code, title = 409, "case_held", "The case is held by another key"

    def __init__(self, detail: str = "", *, held_by: str | None = None) -> None:
        super().__init__(detail)
        self.held_by = held_by


class CaseResolved(Refusal):
    """The case was approved or declined before, in another way or by another key; the detail says which. What it came to stays."""

    status, code, title = 409, "case_resolved", "The case is resolved already"


class InFlight(Refusal):
    """Another request with the same idempotency key is still being decided and did not finish while this one waited.
    Ask again with the same key after `Retry-After`: you will get the one decision."""

    status, code, title, retryable = 409, "in_flight", "The same key is still being decided", True


class InsufficientFunds(Refusal):
    """The available balance does not cover the amount of the case's payment, so it cannot be approved now. Nothing has moved, and the case stays
    as it was: approve it when there is money, or decline it."""

    status, code, title = 409, "insufficient_funds", "The available balance does not cover the amount"


class ReservationEnded(Refusal):
    """The reservation has already ended the other way: captured money cannot be released, released or expired money cannot be captured."""

    status, code, title = 409, "reservation_ended", "The reservation has already ended"


class ProposalClosed(Refusal):
    """The proposal was approved or refused before, by another key or otherwise; or another policy was made the active one since it was made; or the
    policy is the active one; or it does not fit the tools any more. The detail says which. Nothing was changed."""

    status, code, title = 409, "proposal_closed", "The proposed policy is not open to this any more"


class NotReserved(Refusal):
    """Only an allowed payment holds a reservation; this one was not allowed, so there is nothing to capture or release."""

    status, code, title = 409, "not_reserved", "The payment holds no reservation"


class BodyTooLarge(Refusal):
    """The body is larger than `server.request_max_bytes`."""

    status, code, title = 413, "body_too_large", "The body is too large"


class NotJson(Refusal):
    """The body must be sent as `Content-Type: application/json`, in UTF-8; plain, or with `Content-Encoding: gzip` or `deflate`."""

    status, code, title = 415, "unsupported_media_type", "The body must be application/json"


class IdempotencyMismatch(Refusal):
    """This customer's idempotency key stands for another payment: the first request with it had another amount, currency or payee.
    How they are written makes no difference (`125.5` and `"125.50"` USD are the same). Use a new key for a new payment;
    nothing is told of the first one."""

    status, code, title = 422, "idempotency_mismatch", "The idempotency key stands for another payment"


class RateLimited(Refusal):
    """Too many new payments of this customer, or too many requests with this API key.
    `Retry-After` says how many seconds to wait. A key that is known already is never refused by the customer's limit."""

    status, code, title, retryable = 429, "rate_limited", "Too many requests", True

    def __init__(self, detail: str = "", *, retry_after_s: float = 1.0, told: LimitState | None = None) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)
        self.told = told


class InternalFault(Refusal):
    """A fault of PayNow itself. The log holds the details under the same request id.
    Asking again with the same idempotency key is safe."""

    status, code, title, retryable = 500, "internal", "An internal fault", True


class StoreUnavailable(Refusal):
    """PostgreSQL cannot be reached or is restarting. A payment that was begun may still be decided: ask again with the same key
    after `Retry-After`, and you will get the one decision."""

    status, code, title, retryable = 503, "store_unavailable", "The service cannot answer right now", True


class OutcomeUnknown(Refusal):
    """The connection was lost while the request was being carried out: it may have been, or may still be. Send the same request again:
    the same idempotency key gets the one decision, a capture, a release or the work on a case that was done gets the same answer."""

    status, code, title, retryable = 503, "outcome_unknown", "It is not known whether the request was carried out", True


class LimiterUnavailable(Refusal):
    """The rate limiter's store is down and `rate_limit.on_store_failure` is `deny`. Ask again after `Retry-After`."""

    status, code, title, retryable = 503, "limiter_unavailable", "The rate limit cannot be checked right now", True


class SigningKeysUnavailable(Refusal):
    """The identity provider's keys cannot be fetched, so that no token, or none signed with a key that is new here, can be checked: the token may be
    right. API keys go on working. Ask again after `Retry-After`."""

    status, code, title, retryable = 503, "signing_keys_unavailable", "Tokens cannot be checked right now", True


class Overloaded(Refusal):
    """More requests wait than PayNow is willing to queue. A payment that was begun may still be decided: ask again with the same key
    after `Retry-After`, and you will get the one decision."""

    status, code, title, retryable = 503, "overloaded", "Too busy right now", True


@dataclass(frozen=True, slots=True)
class ConfigurationFault:
    """One fault of the configuration: `origin` is a file with its line, or an environment variable."""

    origin: str
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.key}: {self.message}" if self.key else f"{self.origin}: {self.message}"


class ConfigurationRefused(PayNowError):
    """The boot stops here. `faults` holds all that is wrong, not the first thing only."""

    def __init__(self, faults: Sequence[ConfigurationFault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


def refusals() -> list[type[Refusal]]:
    """Every refusal there is, in the order of its status: the closed list of error codes."""
    return sorted(Refusal.__subclasses__(), key=lambda refusal: (refusal.status, refusal.code))
