"""The forms of the allow and block lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from marshmallow import RAISE, Schema, fields, validate

from paynow.http.case_schemas import Prose
from paynow.http.schemas import Fault
from paynow.payments.listings import KINDS, LISTS, REASON_LENGTH_MAX

RFC_3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII)
"""A `date-time` of RFC 3339, section 5.6, by its form: Python's own reader takes much more of ISO 8601."""


class Moment(fields.Field[datetime]):
    """A time in RFC 3339, with its offset from UTC."""

    expected = "must be a time in the future in RFC 3339 with its offset, such as 2027-01-31T12:00:00Z, or null"

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> datetime:
        if not isinstance(value, str):
            raise Fault("type", self.expected)
        if not RFC_3339.fullmatch(value):
            raise Fault("format", self.expected)
        try:
            moment = datetime.fromisoformat(value.upper())
        except ValueError:
            raise Fault("format", self.expected) from None
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            raise Fault("range", self.expected) from None


class PutListingSchema(Schema):
    """The body of `PUT /api/lists/{kind}/{id}/{list}`."""

    class Meta:
        unknown = RAISE

    reason = Prose(REASON_LENGTH_MAX, lines=False, required=True, metadata={"description": "Why it stands there", "example": "fraud ring"})
    expires_at = Moment(
        data_key="expiresAt",
        allow_none=True,
        load_default=None,
        metadata={"description": "When it counts no longer; null: until it is removed", "example": "2027-01-31T12:00:00Z"},
    )


class ListingSchema(Schema):
    """An entry of the lists."""

    kind = fields.String(required=True, validate=validate.OneOf(KINDS))
    id = fields.String(required=True)
    list = fields.String(required=True, validate=validate.OneOf(LISTS))
    state = fields.String(required=True, validate=validate.OneOf(("valid", "expired")))
    reason = fields.String(required=True)
    author = fields.String(required=True, allow_none=True, metadata={"description": "The API key, or the user of the commands, who wrote it last"})
    added_at = fields.DateTime(data_key="addedAt", required=True, format="iso")
    expires_at = fields.DateTime(data_key="expiresAt", required=True, allow_none=True, format="iso")


class ListingPageSchema(Schema):
    """Entries by kind, id and list; `nextCursor` is null on the last page."""

    items = fields.List(fields.Nested(ListingSchema), required=True)
    next_cursor = fields.String(data_key="nextCursor", required=True, allow_none=True)


class RemovedListingSchema(Schema):
    """What was taken off the lists."""

    kind = fields.String(required=True, validate=validate.OneOf(KINDS))
    id = fields.String(required=True)
    list = fields.String(required=True, validate=validate.OneOf(LISTS))
    removed = fields.Boolean(required=True, metadata={"description": "False if it did not stand there (any more)"})
