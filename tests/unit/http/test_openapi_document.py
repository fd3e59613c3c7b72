"""The OpenAPI document: valid, complete, and with examples that hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

from bad_bodies import VALID
from paynow import errors
from paynow.http import examples, openapi, schemas
from paynow.http.decide_request import read_decide_request
from paynow.http.routing import ROUTES, Route, refusals_of

ALL = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
SCOPED = pytest.mark.parametrize("route", [route for route in ROUTES if route.scope], ids=lambda route: route.name)


def operation_of(route: Route) -> dict[str, Any]:
    return dict(openapi.document()["paths"][route.path][route.method.lower()])


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """A validator that knows the document's components."""
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": openapi.document()["components"], **schema}
    return Draft202012Validator(whole, format_checker=FormatChecker())


def contents(route: Route) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every body that the route takes and answers, with its media type."""
    operation = operation_of(route)
    yield from operation.get("requestBody", {}).get("content", {}).items()
    for answer in operation["responses"].values():
        yield from answer["content"].items()


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in value:
        return value
    found: Any = openapi.document()
    for part in value["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def test_the_document_is_valid_openapi_3_1() -> None:
    assert openapi.document()["openapi"] == "3.1.0"
    assert [error.message for error in OpenAPIV31SpecValidator(openapi.document()).iter_errors()] == []


def test_the_bytes_are_the_document() -> None:
    assert json.loads(openapi.as_bytes()) == openapi.document()


def test_the_document_names_no_other_host() -> None:
    assert b"://" not in openapi.as_bytes()


@ALL
def test_every_example_has_the_form_that_is_described(route: Route) -> None:
    for media_type, content in contents(route):
        shown = [content["example"]] if "example" in content else [resolved(example)["value"] for example in content.get("examples", {}).values()]
        assert shown or route.answers is None, media_type
        for example in shown:
            validator(content["schema"]).validate(example)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.answers], ids=lambda route: route.name)
def test_every_example_of_an_answer_holds_nothing_that_is_not_described(route: Route) -> None:
    assert route.answers is not None
    assert route.answers().validate(examples.ANSWERS[route.name]) == {}


def test_the_example_of_a_request_is_accepted() -> None:
    asked = read_decide_request(dict(examples.REQUESTS["decide"]), [], "request-1")
    assert (asked.amount_minor, asked.currency) == (12550, "USD")


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({}, True),
        ({"amount": 125.5}, True),
        ({"amount": 0}, False),
        ({"amount": -1}, False),
        ({"amount": "-1"}, False),
        ({"amount": "1e2"}, False),
        ({"amount": True}, False),
        ({"amount": None}, False),
        ({"currency": "usd"}, False),
        ({"customerId": ""}, False),
        ({"customerId": "a b"}, False),
        ({"payeeId": "p" * 65}, False),
        ({"idempotencyKey": "é"}, False),
        ({"note": "x"}, False),
    ],
)
def test_the_described_form_of_a_request_is_the_one_that_is_checked(changes: dict[str, Any], accepted: bool) -> None:
    form = validator({"$ref": "#/components/schemas/Decide"})
    assert form.is_valid({**VALID, **changes}) is accepted


def test_the_fields_that_are_needed_are_those_described() -> None:
    form = openapi.document()["components"]["schemas"]["Decide"]
    assert set(form["required"]) == {"customerId", "payeeId", "amount", "currency"}
    assert form["additionalProperties"] is False


def test_answers_may_gain_names() -> None:
    for name, form in openapi.document()["components"]["schemas"].items():
        assert ("additionalProperties" in form) is (name in {"Decide", "Note", "Label", "PutListing", "Propose"})


def test_times_ids_and_what_may_be_null_are_described() -> None:
    properties = openapi.document()["components"]["schemas"]["Decision"]["properties"]
    assert properties["decidedAt"] == {"type": "string", "format": "date-time"}
    assert properties["paymentId"] == {"type": "string", "format": "uuid"}
    assert properties["caseId"] == {"type": ["string", "null"], "format": "uuid"}
    assert properties["reservation"] == {"anyOf": [{"$ref": "#/components/schemas/Reservation"}, {"type": "null"}]}
    assert properties["decision"]["enum"] == list(schemas.DECISIONS)


@ALL
def test_every_refusal_of_a_route_is_described_under_its_status(route: Route) -> None:
    described = {
        (int(status), code)
        for status, answer in operation_of(route)["responses"].items()
        for code in answer["content"].get("application/problem+json", {}).get("examples", {})
    }
    assert described == {(refusal.status, refusal.code) for refusal in refusals_of(route)}


@ALL
def test_where_every_refusal_may_be_retried_the_answer_says_when(route: Route) -> None:
    for status, answer in operation_of(route)["responses"].items():
        codes = answer["content"].get("application/problem+json", {}).get("examples", {})
        retryable = {refusal.retryable for refusal in errors.refusals() if refusal.code in codes}
        assert ("Retry-After" in answer["headers"]) is (retryable == {True}), status


@ALL
def test_every_answer_carries_the_request_id(route: Route) -> None:
    operation = operation_of(route)
    assert {"$ref": "#/components/parameters/RequestId"} in operation["parameters"]
    assert all("X-Request-Id" in answer["headers"] for answer in operation["responses"].values())


@SCOPED
def test_a_scoped_route_says_how_it_is_opened(route: Route) -> None:
    operation = operation_of(route)
    assert operation["security"] == [{"ApiKey": []}, {"Bearer": []}, {"Jwt": []}]
    assert operation["x-scope"] == route.scope
    assert f"`{route.scope}`" in operation["description"]
    assert {"401", "403", "429", "500", "503"} <= set(operation["responses"])


def test_open_routes_ask_for_no_key() -> None:
    for route in ROUTES:
        if route.scope is None:
            assert operation_of(route)["security"] == []
            assert {"401", "403"}.isdisjoint(operation_of(route)["responses"])


def test_a_decision_is_described_with_its_headers() -> None:
    (route,) = (route for route in ROUTES if route.name == "decide")
    operation = operation_of(route)
    assert {"$ref": "#/components/parameters/IdempotencyKey"} in operation["parameters"]
    assert set(operation["responses"]["200"]["headers"]) == {"X-Request-Id", "Idempotent-Replayed", "RateLimit-Policy", "RateLimit"}
    assert set(operation["responses"]) == {"200", "400", "401", "403", "409", "413", "415", "422", "429", "500", "503"}
    assert set(operation["responses"]["429"]["headers"]) == {"X-Request-Id", "Retry-After", "RateLimit-Policy", "RateLimit"}


def test_not_being_ready_is_an_answer_and_no_problem() -> None:
    (route,) = (route for route in ROUTES if route.name == "readyz")
    assert list(operation_of(route)["responses"]["503"]["content"]) == ["application/json"]


def test_operations_have_names_of_their_own() -> None:
    names = [operation_of(route)["operationId"] for route in ROUTES]
    assert len(set(names)) == len(names)
    assert all(name.isalnum() for name in names)
