"""The forms of cases and of what is done to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import RAISE, Schema, fields, validate

from paynow.cases.vocabulary import LABELS, STATUSES
from paynow.http.schemas import Fault, ReasonSchema

ACTS = ("claimed", "unclaimed", "approved", "declined", "noted", "labelled")
NOTE_LENGTH_MAX = 2000


class Prose(fields.Field[str]):
    """What a person writes: one or more lines without other control characters, `length_max` characters at most."""

    def __init__(self, length_max: int, *, lines: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length_max = length_max
        self.breaks = "\n\t" if lines else ""
        self.expected = f"must be text of 1 to {length_max} printable characters{', line breaks and tabs' if lines else ''}"

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise Fault("type", self.expected)
        if not value.strip() or len(value) > self.length_max or not all(one.isprintable() or one in self.breaks for one in value):
            raise Fault("format", self.expected)
        return value


class Choice(fields.Field[str]):
    """One of a closed list of words."""

    def __init__(self, *words: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.words = words
        self.expected = f"must be one of {', '.join(words)}"

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise Fault("type", self.expected)
        if value not in self.words:
            raise Fault("choice", self.expected)
        return value


class NoteSchema(Schema):
    """The body of `POST /api/cases/{caseId}/note`."""

    class Meta:
        unknown = RAISE

    note = Prose(NOTE_LENGTH_MAX, lines=True, required=True, metadata={"description": "What others should know", "example": "Called the customer"})


class LabelSchema(Schema):
    """The body of `POST /api/cases/{caseId}/label`."""

    class Meta:
        unknown = RAISE

    label = Choice(*LABELS, required=True, metadata={"description": "What the case turned out to be", "example": "false_positive"})


class CaseSchema(Schema):
    """A review for people. Keys are named by their ids."""

    case_id = fields.UUID(data_key="caseId", required=True)
    payment_id = fields.UUID(data_key="paymentId", required=True)
    customer_id = fields.String(data_key="customerId", required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    amount = fields.String(required=True)
    currency = fields.String(required=True)
    reasons = fields.List(fields.Nested(ReasonSchema), required=True)
    priority = fields.Integer(strict=True, required=True, metadata={"description": "The higher the more urgent"})
    opened_at = fields.DateTime(data_key="openedAt", required=True, format="iso")
    due_at = fields.DateTime(data_key="dueAt", required=True, format="iso")
    overdue = fields.Boolean(required=True, metadata={"description": "Not resolved, and past its due time"})
    holder = fields.String(required=True, allow_none=True, metadata={"description": "The key that has claimed it"})
    claimed_at = fields.DateTime(data_key="claimedAt", required=True, allow_none=True, format="iso")
    label = fields.String(required=True, allow_none=True, validate=validate.OneOf(LABELS))
    resolved_by = fields.String(
        data_key="resolvedBy", required=True, allow_none=True, metadata={"description": "The key that approved or declined it"}
    )
    resolved_at = fields.DateTime(data_key="resolvedAt", required=True, allow_none=True, format="iso")
    reserved_until = fields.DateTime(
        data_key="reservedUntil",
        required=True,
        allow_none=True,
        format="iso",
        metadata={"description": "When the reservation that its approval made expires or would have; the payment says how it stands"},
    )


class CaseActSchema(Schema):
    """One entry of a case's history."""

    act = fields.String(required=True, validate=validate.OneOf(ACTS))
    key_id = fields.String(data_key="keyId", required=True, metadata={"description": "The acting API key"})
    at = fields.DateTime(required=True, format="iso")
    note = fields.String()
    label = fields.String(validate=validate.OneOf(LABELS))


class CaseWithHistorySchema(CaseSchema):
    """A case with all that was done to it, in its order."""

    history = fields.List(fields.Nested(CaseActSchema), required=True)


class CasePageSchema(Schema):
    """Cases in the order that was asked for; `nextCursor` is null on the last page."""

    items = fields.List(fields.Nested(CaseSchema), required=True)
    next_cursor = fields.String(data_key="nextCursor", required=True, allow_none=True)
