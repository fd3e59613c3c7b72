"""The forms of what goes in and comes out: marshmallow schemas, checked on the way in and shown in the OpenAPI document on the way out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from paynow.errors import refusals
from paynow.money import AMOUNT_MINOR_MAX, exponents, to_minor, to_text

ID_PATTERN = r"^[A-Za-z0-9_.:-]{1,64}$"
KEY_PATTERN = r"^[ -~]{1,255}$"
AMOUNT_PATTERN = r"^[0-9]{1,16}(\.[0-9]{1,10})?$"
DECISIONS = ("allow", "review", "block")

_ID = re.compile(ID_PATTERN[:-1] + r"\Z")
_KEY = re.compile(KEY_PATTERN[:-1] + r"\Z")
_AMOUNT = re.compile(AMOUNT_PATTERN[:-1] + r"\Z")


class Fault(ValidationError):
    """A field's fault with its code; the message says what was expected and never what was sent."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__({"code": code, "message": message})


class PlainText(fields.Field[str]):
    """Text of one form, told by `pattern`; `form` says it in words."""

    def __init__(self, pattern: re.Pattern[str], form: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pattern = pattern
        self.expected = f"must be text: {form}"

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise Fault("type", self.expected)
        if self.pattern.match(value) is None:
            raise Fault("format", self.expected)
        return value


class CurrencyCode(fields.Field[str]):
    """An ISO 4217 code in capitals."""

    expected = "must be an ISO 4217 currency code in capitals, such as USD"

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise Fault("type", self.expected)
        if value not in exponents():
            raise Fault("currency", self.expected)
        return value


class Amount(fields.Field[Decimal]):
    """A decimal in major units, as text or number, read exactly."""

    expected = 'must be a decimal greater than zero in major units, such as "125.50"'

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Decimal:
        if isinstance(value, str):
            if _AMOUNT.match(value) is None:
                raise Fault("format", f"{self.expected}, written with digits and at most one point")
        elif isinstance(value, bool) or not isinstance(value, (int, Decimal)):
            raise Fault("type", self.expected)
        try:
            amount = Decimal(value)
        except InvalidOperation:
            raise Fault("format", self.expected) from None
        if amount <= 0:
            raise Fault("range", self.expected)
        if amount.adjusted() > 20:
            raise Fault("range", "is larger than any payment may be")
        return amount


class DecideSchema(Schema):
    """The body of `POST /api/payments/decide`."""

    class Meta:
        unknown = RAISE

    customer_id = PlainText(
        _ID,
        "1 to 64 of the characters A-Z a-z 0-9 _ . : -",
        data_key="customerId",
        required=True,
        metadata={"description": "Who pays", "example": "c_123"},
    )
    payee_id = PlainText(
        _ID,
        "1 to 64 of the characters A-Z a-z 0-9 _ . : -",
        data_key="payeeId",
        required=True,
        metadata={"description": "Who is paid", "example": "p_789"},
    )
    amount = Amount(required=True, metadata={"description": "Major units, exactly; no more decimals than the currency has", "example": "125.50"})
    currency = CurrencyCode(required=True, metadata={"description": "ISO 4217", "example": "USD"})
    key = PlainText(
        _KEY,
        "1 to 255 printable ASCII characters",
        data_key="idempotencyKey",
        metadata={"description": "May come as the header Idempotency-Key instead; one of both is needed", "example": "6f1c0d52"},
    )


def amount_minor(amount: Decimal, currency: str) -> int:
    """The amount in minor units. Raises `Fault` for decimals that the currency does not have, and for more than a payment may be."""
    try:
        minor = to_minor(amount, currency)
    except ValueError:
        decimals = exponents()[currency]
        raise Fault("decimals", f"must have at most {decimals} decimals in {currency}") from None
    if minor > AMOUNT_MINOR_MAX:
        raise Fault("range", f"must be at most {to_text(AMOUNT_MINOR_MAX, currency)} in {currency}")
    return minor


class ReasonSchema(Schema):
    """Why: a stable code (see /docs and the policy's rules) and a sentence for the people who work with payments."""

    code = fields.String(required=True)
    message = fields.String(required=True)
    customer_message = fields.String(
        data_key="customerMessage",
        metadata={"description": "What the one who pays may be shown; only if the policy's rule says it. `message` is never meant for them"},
    )


class ReservationSchema(Schema):
    """The money that was set aside."""

    status = fields.String(required=True, validate=validate.OneOf(("held", "captured", "released", "expired")))
    amount = fields.String(required=True)
    currency = fields.String(required=True)
    expires_at = fields.DateTime(data_key="expiresAt", required=True, format="iso")
    ended_at = fields.DateTime(data_key="endedAt", format="iso")


class TraceStepSchema(Schema):
    """One step of the agent: `plan`, `tool`, `fallback`, `decide` or `settle`; which of the other names it has depends on it."""

    step = fields.String(required=True, validate=validate.OneOf(("plan", "tool", "fallback", "decide", "settle")))
    tools = fields.List(fields.String())
    policy_version = fields.String(data_key="policyVersion")
    tool = fields.String()
    attempt = fields.Integer(strict=True)
    status = fields.String(validate=validate.OneOf(("ok", "error", "timeout", "invalid", "skipped", "settled", "overruled")))
    duration_ms = fields.Float(data_key="durationMs")
    output = fields.Dict(keys=fields.String())
    error = fields.String()
    on_failure = fields.String(data_key="onFailure", validate=validate.OneOf(("block", "review", "ignore")))
    decision = fields.String(validate=validate.OneOf(DECISIONS))
    fired = fields.List(fields.String())
    unknown_ = fields.List(fields.String(), data_key="unknown", attribute="unknown")
    score = fields.Integer(strict=True)
    score_max = fields.Integer(strict=True, data_key="scoreMax")
    shadow_fired = fields.List(fields.String(), data_key="shadowFired")
    shadow_unknown = fields.List(fields.String(), data_key="shadowUnknown")
    reason = fields.String()


class DecisionSchema(Schema):
    """A decision, as it was first answered."""

    payment_id = fields.UUID(data_key="paymentId", required=True)
    request_id = fields.String(data_key="requestId", required=True)
    decision = fields.String(required=True, validate=validate.OneOf(DECISIONS))
    reasons = fields.List(fields.Nested(ReasonSchema), required=True)
    degraded = fields.Boolean(required=True, metadata={"description": "A tool failed, and its fallback was used; the trace says which"})
    policy_version = fields.String(data_key="policyVersion", required=True)
    case_id = fields.UUID(data_key="caseId", required=True, allow_none=True)
    reservation = fields.Nested(ReservationSchema, required=True, allow_none=True)
    agent_trace = fields.List(fields.Nested(TraceStepSchema), data_key="agentTrace", required=True)
    decided_at = fields.DateTime(data_key="decidedAt", required=True, format="iso")


class StoredPaymentSchema(DecisionSchema):
    """A decision with the payment's own facts, and its reservation as it stands now."""

    customer_id = fields.String(data_key="customerId", required=True)
    payee_id = fields.String(data_key="payeeId", required=True)
    amount = fields.String(required=True)
    currency = fields.String(required=True)


class PaymentSummarySchema(Schema):
    """One line of a page of payments."""

    payment_id = fields.UUID(data_key="paymentId", required=True)
    customer_id = fields.String(data_key="customerId", required=True)
    payee_id = fields.String(data_key="payeeId", required=True)
    amount = fields.String(required=True)
    currency = fields.String(required=True)
    decision = fields.String(required=True, validate=validate.OneOf(DECISIONS))
    reasons = fields.List(fields.Nested(ReasonSchema), required=True)
    degraded = fields.Boolean(required=True)
    case_id = fields.UUID(data_key="caseId", required=True, allow_none=True)
    reservation = fields.Nested(ReservationSchema, required=True, allow_none=True)
    decided_at = fields.DateTime(data_key="decidedAt", required=True, format="iso")


class PaymentPageSchema(Schema):
    """Payments, newest first; `nextCursor` is null on the last page."""

    items = fields.List(fields.Nested(PaymentSummarySchema), required=True)
    next_cursor = fields.String(data_key="nextCursor", required=True, allow_none=True)


class EndedReservationSchema(Schema):
    """A reservation that has ended."""

    payment_id = fields.UUID(data_key="paymentId", required=True)
    status = fields.String(required=True, validate=validate.OneOf(("captured", "released", "expired")))
    amount = fields.String(required=True)
    currency = fields.String(required=True)
    ended_at = fields.DateTime(data_key="endedAt", required=True, format="iso")


class BalanceSchema(Schema):
    """One account."""

    currency = fields.String(required=True)
    available = fields.String(required=True)
    reserved = fields.String(required=True)


class AccountSchema(Schema):
    """A customer's accounts."""

    customer_id = fields.String(data_key="customerId", required=True)
    balances = fields.List(fields.Nested(BalanceSchema), required=True)


class EventSchema(Schema):
    """A CloudEvents 1.0 event in JSON format."""

    specversion = fields.String(required=True)
    id = fields.String(required=True)
    source = fields.String(required=True)
    type = fields.String(required=True)
    subject = fields.String()
    time = fields.DateTime(format="iso")
    datacontenttype = fields.String()
    sequence = fields.String()
    partitionkey = fields.String()
    data = fields.Dict(keys=fields.String())


class EventPageSchema(Schema):
    """The last events that this process delivered, newest first."""

    items = fields.List(fields.Nested(EventSchema), required=True)
    next_cursor = fields.String(data_key="nextCursor", required=True, allow_none=True)


class QuantilesSchema(Schema):
    """Latencies in milliseconds."""

    count = fields.Integer(strict=True, required=True)
    p50_latency = fields.Float(data_key="p50Latency", required=True)
    p95_latency = fields.Float(data_key="p95Latency", required=True)
    p99_latency = fields.Float(data_key="p99Latency", required=True)


class ToolFiguresSchema(Schema):
    """A tool's attempts, and how many of them gave no answer."""

    calls = fields.Integer(strict=True, required=True)
    failures = fields.Integer(strict=True, required=True)
    p95_latency = fields.Float(data_key="p95Latency", required=True)


class DecisionCountsSchema(Schema):
    """Decisions since the start."""

    allow = fields.Integer(strict=True, required=True)
    review = fields.Integer(strict=True, required=True)
    block = fields.Integer(strict=True, required=True)


class MetricsSchema(Schema):
    """Figures since the process started; latencies in milliseconds."""

    total_requests = fields.Integer(strict=True, data_key="totalRequests", required=True)
    decisions = fields.Nested(DecisionCountsSchema, required=True)
    p95_latency = fields.Float(data_key="p95Latency", required=True)
    routes = fields.Dict(keys=fields.String(), values=fields.Nested(QuantilesSchema), required=True)
    tools = fields.Dict(keys=fields.String(), values=fields.Nested(ToolFiguresSchema), required=True)


class HealthSchema(Schema):
    """`ok`, or why not."""

    status = fields.String(required=True)


class ReadinessSchema(HealthSchema):
    """The same, and when it is `ok`, whether the rate limiter's store answers."""

    rate_limit = fields.String(
        data_key="rateLimit",
        validate=validate.OneOf(["ok", "deny", "local"]),
        metadata={"description": "`ok`, or what is done while the rate limiter's store is down: `rate_limit.on_store_failure`"},
    )


class FieldFaultSchema(Schema):
    """What is wrong with one field, and what was expected."""

    field = fields.String(required=True)
    code = fields.String(required=True)
    message = fields.String(required=True)


class ProblemSchema(Schema):
    """RFC 9457 problem details."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(strict=True, required=True)
    detail = fields.String(required=True)
    code = fields.String(required=True, validate=validate.OneOf([refusal.code for refusal in refusals()]))
    retryable = fields.Boolean(required=True)
    request_id = fields.String(data_key="requestId", required=True)
    errors = fields.List(fields.Nested(FieldFaultSchema))
    held_by = fields.String(data_key="heldBy", metadata={"description": "With `case_held`: the id of the key that has claimed the case"})
