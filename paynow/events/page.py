"""The page of all events for people, made of the same declarations as the schemas: docs/events-schema.md."""

from __future__ import annotations

import json

from paynow.events.examples import EXAMPLES
from paynow.events.forms import EVENT_TYPES, Envelope, EventType
from paynow.events.schemas import Json, event_of, fields_of

PAGE = """\
# The forms of events

Written by `paynow events schema --markdown`, out of the declarations that PayNow itself makes its events of; `make docs` writes this page.
For programs the same is said as a JSON Schema (`paynow events schema`, `GET /api/events/schema.json`) and as an AsyncAPI document
(`paynow events schema --asyncapi`, `GET /api/asyncapi.json`). How to consume them, and what may change: [events.md](events.md#consuming).

## The envelope

All attributes are always there.

{envelope}

{types}
"""
TYPE = """\
## {type}

{when}. `subject`: {subject}.

{fields}

```json
{example}
```"""

_FORMATS = {"uuid": "UUID", "date-time": "time"}
_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "object": "object"}


def page() -> str:
    """The page in Markdown."""
    return PAGE.format(envelope=_table("attribute", fields_of(Envelope)), types="\n\n".join(_of(one) for one in EVENT_TYPES))


def _of(one: EventType) -> str:
    subject = event_of(one, "")["properties"]["subject"]["description"]
    example = json.dumps(EXAMPLES[one.type], indent=2)
    return TYPE.format(type=one.type, when=one.when, subject=_begun_small(subject), fields=_table("`data`", fields_of(one.data)), example=example)


def _table(what: str, form: Json) -> str:
    rows = [f"| `{name}` | {_said(field)} | {field['description']} |" for name, field in form["properties"].items()]
    return "\n".join([f"| {what} | is | meaning |", "|---|---|---|", *rows])


def _said(form: Json) -> str:
    """A form in words: its words if it has a list of them, else its type."""
    kinds = form["type"] if isinstance(form["type"], list) else [form["type"]]
    return _not_null(form, kinds[0]) + (" or null" if "null" in kinds else "")


def _not_null(form: Json, kind: str) -> str:
    words = [form["const"]] if "const" in form else form.get("enum") or form.get("x-extensible-enum")
    if words:
        more = " (there may be more)" if "x-extensible-enum" in form else ""
        return ", ".join(f"`{word}`" for word in words if word is not None) + more
    if form.get("format") in _FORMATS:
        return _FORMATS[form["format"]]
    if kind == "array":
        return f"{form['maxItems']} numbers" if "maxItems" in form else "list of text"
    return _TYPES[kind]


def _begun_small(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]
