"""The OpenAPI 3.1 document, made of the route table, the schemas and the refusals. It adds nothing that they do not say, and knows no handler."""

from __future__ import annotations

import re
from functools import cache
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

import orjson
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema, fields

import paynow
from paynow import errors
from paynow.errors import Refusal
from paynow.http import examples
from paynow.http.case_handlers import KEY_ID_PATTERN
from paynow.http.case_schemas import Choice, Prose
from paynow.http.list_schemas import KINDS, LISTS, Moment
from paynow.http.policy_schemas import TEXT_LENGTH_MAX, PolicyText
from paynow.http.routing import ROUTES, Parameter, Route, refusals_of
from paynow.http.schemas import AMOUNT_PATTERN, ID_PATTERN, KEY_PATTERN, Amount, CurrencyCode, PlainText, ProblemSchema
from paynow.payments.answer import INSUFFICIENT_FUNDS
from paynow.policy import RULE_FAILED, TOOL_FAILED

Json = dict[str, Any]

INTRODUCTION = Path(__file__).parent / "pages" / "introduction.md"

REASON_CODES = {
    INSUFFICIENT_FUNDS.code: f"{INSUFFICIENT_FUNDS.message}.",
    TOOL_FAILED: "A tool gave no answer, and its fallback forbids to allow the payment. The trace says which tool, and why.",
    RULE_FAILED: "A rule could not be evaluated, so that people have to look.",
}
"""The reason codes that are PayNow's own. All others are ids of the policy's rules."""

TAGS = {
    "payments": "Decide, read, capture and release payments.",
    "accounts": "What customers may spend, and what is reserved.",
    "cases": "Payments that people review.",
    "lists": "Customers and payees that the policy may treat otherwise.",
    "policies": "The policy that decides, changed by two keys.",
    "events": "What happened, as CloudEvents.",
    "metrics": "Figures for dashboards and alerts.",
    "health": "For load balancers and supervisors.",
    "documents": "What the service says about itself.",
}

_UUID: Json = {"type": "string", "format": "uuid"}
_PATH_PARAMETERS: dict[str, tuple[str, Json]] = {
    "paymentId": ("The payment's id, as the decision named it", _UUID),
    "caseId": ("The case's id", _UUID),
    "customerId": ("The customer's id", {"type": "string", "pattern": ID_PATTERN}),
    "kind": ("Who stands on the list", {"type": "string", "enum": list(KINDS)}),
    "id": ("The customer's or payee's id", {"type": "string", "pattern": ID_PATTERN}),
    "list": ("The list", {"type": "string", "enum": list(LISTS)}),
    "version": ("The policy's version", {"type": "string", "pattern": "^[0-9a-f]{32}$"}),
    "name": ("A file's name", {"type": "string"}),
    "code": ("The `code` of a problem", {"type": "string", "enum": [refusal.code for refusal in errors.refusals()]}),
}
_QUERY_FORMS: dict[str, Json] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
    "customerId": {"type": "string", "pattern": ID_PATTERN},
    "id": {"type": "string", "pattern": ID_PATTERN},
    "holder": {"type": "string", "pattern": KEY_ID_PATTERN},
    "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
    "amountMin": {"type": "string", "pattern": AMOUNT_PATTERN},
    "amountMax": {"type": "string", "pattern": AMOUNT_PATTERN},
    "ageMin": {"type": "string", "pattern": "^[0-9]{1,9}[smhd]$"},
    "ageMax": {"type": "string", "pattern": "^[0-9]{1,9}[smhd]$"},
}
_HEADERS: dict[str, Json] = {
    "X-Request-Id": {"description": "The request's id: yours, if it was sane", "required": True, "schema": {"type": "string"}},
    "Idempotent-Replayed": {"description": "`true` if this is the answer that was given first", "schema": {"type": "string", "const": "true"}},
    "RateLimit-Policy": {
        "description": "The limit that was asked: `q` requests in `w` seconds (draft-ietf-httpapi-ratelimit-headers-10)",
        "schema": {"type": "string"},
        "example": '"customer";q=5;w=1',
    },
    "RateLimit": {
        "description": "What is left of it: `r` requests now, all of them again in `t` seconds",
        "schema": {"type": "string"},
        "example": '"customer";r=4;t=1',
    },
    "Retry-After": {
        "description": "Seconds to wait before the same request may succeed",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "Allow": {"description": "The methods that the route has", "schema": {"type": "string"}},
}

_TAKEN = {route.takes.__name__.removesuffix("Schema") for route in ROUTES if route.takes is not None}


@cache
def document() -> Json:
    """The document as plain JSON values. It is made once."""
    marshmallow_plugin = MarshmallowPlugin(schema_name_resolver=_name_of)
    spec = APISpec(
        title="PayNow",
        version=paynow.__version__,
        openapi_version="3.1.0",
        plugins=[marshmallow_plugin],
        info={
            "description": _introduction(),
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        tags=[{"name": name, "description": description} for name, description in TAGS.items()],
    )
    _teach(marshmallow_plugin)
    _add_components(spec)
    for path, routes in groupby(ROUTES, key=lambda route: route.path):
        spec.path(path, operations={route.method.lower(): _operation(route) for route in routes})
    described = spec.to_dict()
    for name, schema in described["components"]["schemas"].items():
        if name not in _TAKEN:
            # What we take is closed. What we answer may gain names without breaking anyone, so callers must not be told that it never will.
            schema.pop("additionalProperties", None)
    return described


@cache
def as_bytes() -> bytes:
    """The document as it is sent."""
    return orjson.dumps(document())


def _introduction() -> str:
    rows = [f"| {refusal.status} | [`{refusal.code}`](/docs/errors/{refusal.code}) | {refusal.title} |" for refusal in errors.refusals()]
    listed = "\n".join(["| Status | Code | Meaning |", "|---|---|---|", *rows])
    reasons = "\n".join(["| Code | Meaning |", "|---|---|", *(f"| `{code}` | {meaning} |" for code, meaning in REASON_CODES.items())])
    return Template(INTRODUCTION.read_text(encoding="utf-8")).substitute(errors=listed, reasons=reasons)


def _name_of(schema: type[Schema] | Schema) -> str:
    cls = schema if isinstance(schema, type) else type(schema)
    return cls.__name__.removesuffix("Schema")


def _teach(plugin: MarshmallowPlugin) -> None:
    """What our own fields look like in JSON Schema, and what the schemas say of themselves."""
    plugin.map_to_openapi_type(PlainText, "string", None)
    plugin.map_to_openapi_type(CurrencyCode, "string", None)
    plugin.map_to_openapi_type(Prose, "string", None)
    plugin.map_to_openapi_type(Choice, "string", None)
    plugin.map_to_openapi_type(PolicyText, "string", None)
    plugin.map_to_openapi_type(Moment, "string", "date-time")
    plugin.map_to_openapi_type(Amount, ["string", "number"], None)
    assert plugin.converter is not None
    plugin.converter.add_attribute_function(_form_of)


def _form_of(_converter: Any, field: fields.Field[Any], **_: Any) -> Json:
    match field:
        case PlainText():
            return {"pattern": field.pattern.pattern.removesuffix(r"\Z") + "$"}
        case CurrencyCode():
            return {"pattern": "^[A-Z]{3}$"}
        case Amount():
            return {"pattern": AMOUNT_PATTERN, "exclusiveMinimum": 0}
        case Prose():
            return {"minLength": 1, "maxLength": field.length_max}
        case PolicyText():
            return {"minLength": 1, "maxLength": TEXT_LENGTH_MAX}
        case Choice():
            return {"enum": list(field.words)}
    return {}


def _add_components(spec: APISpec) -> None:
    for name, header in _HEADERS.items():
        spec.components.header(name, header)
    for refusal in errors.refusals():
        spec.components.example(refusal.code, {"summary": refusal.title, "value": examples.problem_of(refusal)})
    spec.components.schema("Problem", schema=ProblemSchema)
    spec.components.parameter(
        "RequestId",
        "header",
        {
            "name": "X-Request-Id",
            "description": "Comes back in the answer, and stands in every line of the log, if it is 8 to 64 of the characters A-Z a-z 0-9 _ . -",
            "schema": {"type": "string"},
        },
    )
    spec.components.parameter(
        "IdempotencyKey",
        "header",
        {
            "name": "Idempotency-Key",
            "description": "Instead of `idempotencyKey` in the body; if both are sent they must be the same",
            "schema": {"type": "string", "pattern": KEY_PATTERN},
        },
    )
    spec.components.security_scheme("ApiKey", {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "`pn_<id>_<secret>`"})
    spec.components.security_scheme("Bearer", {"type": "http", "scheme": "bearer", "description": "The same key as a bearer token"})
    described = "A token of your identity provider, where the service is configured to take them (`auth.jwt`)"
    spec.components.security_scheme("Jwt", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": described})


def _operation(route: Route) -> Json:
    first, *rest = route.name.split("_")
    operation: Json = {
        "operationId": first + "".join(part.capitalize() for part in rest),
        "tags": [_tag(route)],
        "summary": route.summary,
        "description": f"Scope: `{route.scope}`" if route.scope else "Open to everyone: no key is needed.",
        "parameters": _parameters(route),
        "responses": {"200": _success(route), **_failures(route)},
        "security": [{"ApiKey": []}, {"Bearer": []}, {"Jwt": []}] if route.scope else [],
    }
    if route.scope:
        operation["x-scope"] = route.scope
    if route.takes is not None:
        content = {"schema": route.takes, "example": examples.REQUESTS[route.name]}
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    return operation


def _tag(route: Route) -> str:
    if route.path in ("/healthz", "/readyz"):
        return "health"
    return next((tag for tag in TAGS if f"/{tag}" in route.path), "documents")


def _parameters(route: Route) -> list[Any]:
    found: list[Any] = [
        {"name": name, "in": "path", "required": True, "description": _PATH_PARAMETERS[name][0], "schema": _PATH_PARAMETERS[name][1]}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    found += [
        {"name": parameter.name, "in": "query", "required": parameter.required, "description": parameter.doc, "schema": _query_form(parameter)}
        for parameter in route.query
    ]
    if route.name == "decide":
        found.append("IdempotencyKey")
    return [*found, "RequestId"]


def _query_form(parameter: Parameter) -> Json:
    if parameter.words:
        return {"type": "string", "enum": list(parameter.words)}
    return _QUERY_FORMS.get(parameter.name, {"type": "string"})


def _success(route: Route) -> Json:
    headers = {"X-Request-Id": "X-Request-Id"}
    if route.name == "decide":
        headers |= {name: name for name in ("Idempotent-Replayed", "RateLimit-Policy", "RateLimit")}
    form: Any = route.answers or {"type": "object" if route.media_type == "application/json" else "string"}
    content: Json = {"schema": form}
    if route.name in examples.ANSWERS:
        content["example"] = examples.ANSWERS[route.name]
    return {"description": "The answer", "headers": headers, "content": {route.media_type: content}}


def _failures(route: Route) -> Json:
    """One answer a status; where several refusals share it, the description and the examples tell them apart."""
    answers = {str(status): _failure(list(refusals)) for status, refusals in groupby(refusals_of(route), key=lambda refusal: refusal.status)}
    if route.not_ready is not None:
        content = {"application/json": {"schema": route.not_ready, "example": {"status": errors.StoreUnavailable.code}}}
        answers["503"] = {"description": "Not now", "headers": {"X-Request-Id": "X-Request-Id"}, "content": content}
    return answers


def _failure(refusals: list[type[Refusal]]) -> Json:
    headers = {"X-Request-Id": "X-Request-Id"}
    if all(refusal.retryable for refusal in refusals):
        headers["Retry-After"] = "Retry-After"
    if errors.RateLimited in refusals:
        headers |= {"RateLimit-Policy": "RateLimit-Policy", "RateLimit": "RateLimit"}
    return {
        "description": "; ".join(f"[`{refusal.code}`](/docs/errors/{refusal.code}): {refusal.title}" for refusal in refusals),
        "headers": headers,
        "content": {
            "application/problem+json": {"schema": ProblemSchema, "examples": {refusal.code: refusal.code for refusal in refusals}},
        },
    }
