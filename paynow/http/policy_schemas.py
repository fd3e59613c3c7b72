"""The forms of policies that are proposed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import RAISE, Schema, fields, validate

from paynow.http.schemas import Fault

STATUSES = ("open", "approved", "refused", "overtaken")
TEXT_LENGTH_MAX = 1_000_000


class PolicyText(fields.Field[str]):
    """The text of a policy, as a file would hold it."""

    expected = f"must be the text of a policy, of 1 to {TEXT_LENGTH_MAX} characters"

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise Fault("type", self.expected)
        if not 1 <= len(value) <= TEXT_LENGTH_MAX or "\0" in value or any("\ud800" <= one <= "\udfff" for one in value):
            raise Fault("format", self.expected)
        return value


class ProposeSchema(Schema):
    """The body of `POST /api/policies/proposals`."""

    class Meta:
        unknown = RAISE

    policy = PolicyText(required=True, metadata={"description": "The text of the policy (TOML)"})


class ProposalSchema(Schema):
    """A policy that was proposed to be the active one. Keys are named by their ids."""

    version = fields.String(required=True)
    status = fields.String(
        required=True, validate=validate.OneOf(STATUSES), metadata={"description": "`overtaken`: another policy was made the active one since"}
    )
    proposed_by = fields.String(data_key="proposedBy", required=True)
    proposed_at = fields.DateTime(data_key="proposedAt", required=True, format="iso")
    judged_by = fields.String(data_key="judgedBy", required=True, allow_none=True, metadata={"description": "The key that approved or refused it"})
    judged_at = fields.DateTime(data_key="judgedAt", required=True, allow_none=True, format="iso")


class ProposalWithTextSchema(ProposalSchema):
    """The same with its text."""

    policy = fields.String(required=True)


class ProposalPageSchema(Schema):
    """Proposals, newest first; `nextCursor` is null on the last page."""

    items = fields.List(fields.Nested(ProposalSchema), required=True)
    next_cursor = fields.String(data_key="nextCursor", required=True, allow_none=True)
