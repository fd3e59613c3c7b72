"""The forms of an explanation: the attempts in time, the rules with their values, what would have changed the verdict, and the verification."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from paynow.http.schemas import DECISIONS, ReasonSchema


class AttemptSchema(Schema):
    """One attempt of a tool, where it stood in time."""

    tool = fields.String(required=True)
    attempt = fields.Integer(strict=True, required=True)
    status = fields.String(required=True, validate=validate.OneOf(("ok", "error", "timeout", "invalid", "skipped")))
    start_ms = fields.Float(data_key="startMs", required=True, metadata={"description": "Since the first tool was called"})
    duration_ms = fields.Float(data_key="durationMs", required=True)
    error = fields.String()


class RuleValueSchema(Schema):
    """A rule of the policy that decided, with its value and those of the names that it reads; null where nothing was said.

    It has a verdict (`then`) or adds a `score`; one whose `mode` is `shadow` is only watched.
    """

    id = fields.String(required=True)
    mode = fields.String(required=True, validate=validate.OneOf(("enforce", "shadow")))
    then = fields.String(validate=validate.OneOf(("review", "block")))
    score = fields.Integer()
    when = fields.String(required=True)
    message = fields.String(required=True)
    value = fields.String(required=True, validate=validate.OneOf(("true", "false", "unknown")))
    values = fields.Dict(keys=fields.String(), required=True)


class AlterationSchema(Schema):
    """One thing said otherwise: a `value`, or any from `atLeast` to `atMost`; an end that is missing is where the values end."""

    name = fields.String(required=True)
    recorded = fields.Raw(required=True)
    value = fields.Raw()
    at_least = fields.Raw(data_key="atLeast")
    at_most = fields.Raw(data_key="atMost")


class VerdictChangeSchema(Schema):
    """The decision that the policy would have taken if all of these had been said otherwise, and the rest as recorded."""

    decision = fields.String(required=True, validate=validate.OneOf(DECISIONS))
    text = fields.String(required=True)
    if_ = fields.List(fields.Nested(AlterationSchema), data_key="if", attribute="if", required=True)


class SearchedSchema(Schema):
    """How the changes were looked for: `complete` is false if a bound ended the search; `notes` say what limits it."""

    evaluations = fields.Integer(strict=True, required=True)
    complete = fields.Boolean(required=True)
    notes = fields.List(fields.String(), required=True)


class DifferenceSchema(Schema):
    """One thing that was recorded otherwise than it comes out now."""

    what = fields.String(required=True)
    recorded = fields.String(required=True)
    again = fields.String(required=True)


class VerifiedSchema(Schema):
    """Whether the decision comes out the same again from what was recorded."""

    same = fields.Boolean(required=True)
    differences = fields.List(fields.Nested(DifferenceSchema), required=True)


class ExplanationSchema(Schema):
    """Why a decision is what it is."""

    payment_id = fields.UUID(data_key="paymentId", required=True)
    customer_id = fields.String(data_key="customerId", required=True)
    payee_id = fields.String(data_key="payeeId", required=True)
    amount = fields.String(required=True)
    currency = fields.String(required=True)
    decision = fields.String(required=True, validate=validate.OneOf(DECISIONS))
    reasons = fields.List(fields.Nested(ReasonSchema), required=True)
    degraded = fields.Boolean(required=True)
    policy_version = fields.String(data_key="policyVersion", required=True)
    decided_at = fields.DateTime(data_key="decidedAt", required=True, format="iso")
    timeline = fields.List(fields.Nested(AttemptSchema), required=True)
    rules = fields.List(fields.Nested(RuleValueSchema), required=True)
    changes = fields.List(fields.Nested(VerdictChangeSchema), required=True)
    searched = fields.Nested(SearchedSchema, required=True)
    verified = fields.Nested(VerifiedSchema, required=True)
