"""The schema of events as strict as it can be read: nothing beside what is described, no type or word that is not listed."""

from __future__ import annotations

import copy
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from paynow.events import schemas


def strict(document: dict[str, Any] | None = None) -> Draft202012Validator:
    """A validator for events that takes only what the schema (the published one, if none is named) describes."""
    whole = copy.deepcopy(document or schemas.document())
    for form in whole["$defs"].values():
        form["additionalProperties"] = False
        for field in form["properties"].values():
            if words := field.pop("x-extensible-enum", None):
                field["enum"] = [*words, None] if "null" in field["type"] else words
    whole["$defs"]["Event"]["properties"]["type"]["enum"] = [one["if"]["properties"]["type"]["const"] for one in whole["allOf"]]
    return open_form(whole)


def open_form(document: dict[str, Any] | None = None) -> Draft202012Validator:
    """A validator as a consumer has it, that also looks at the formats."""
    return Draft202012Validator(document or schemas.document(), format_checker=FormatChecker())


def faults(validator: Draft202012Validator, event: dict[str, Any]) -> list[str]:
    """What is wrong with an event, each with its place."""
    return sorted(f"{error.json_path}: {error.message}" for error in validator.iter_errors(event))
