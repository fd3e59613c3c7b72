"""Refusals as problem answers (RFC 9457)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from aiohttp import web

from paynow import errors
from paynow.errors import FieldFault, InvalidRequest, LimitState, RateLimited, Refusal, StoreUnavailable
from paynow.http.problems import from_http_exception, problem
from paynow.http.schemas import ProblemSchema


def document(response: web.Response) -> dict[str, Any]:
    assert isinstance(response.body, bytes)
    return dict(orjson.loads(response.body))


@pytest.mark.parametrize("refusal", errors.refusals(), ids=lambda refusal: refusal.code)
def test_every_refusal_is_told_in_the_same_form(refusal: type[Refusal]) -> None:
    response = problem(refusal(), "request-1")
    assert response.status == refusal.status
    assert response.content_type == "application/problem+json"
    assert document(response) == {
        "type": f"/docs/errors/{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.title,
        "code": refusal.code,
        "retryable": refusal.retryable,
        "requestId": "request-1",
    }
    assert ProblemSchema().validate(document(response)) == {}


@pytest.mark.parametrize("refusal", errors.refusals(), ids=lambda refusal: refusal.code)
def test_who_may_retry_is_told_when(refusal: type[Refusal]) -> None:
    assert ("Retry-After" in problem(refusal(), "request-1").headers) is refusal.retryable


@pytest.mark.parametrize(("retry_after_s", "told"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (90.0, "90")])
def test_retry_after_is_whole_seconds_and_never_too_early(retry_after_s: float, told: str) -> None:
    assert problem(StoreUnavailable(retry_after_s=retry_after_s), "request-1").headers["Retry-After"] == told


def test_faults_of_fields_are_listed() -> None:
    response = problem(InvalidRequest("Wrong", errors=[FieldFault("amount", "range", "must be more")]), "request-1")
    assert document(response)["detail"] == "Wrong"
    assert document(response)["errors"] == [{"field": "amount", "code": "range", "message": "must be more"}]
    assert ProblemSchema().validate(document(response)) == {}


def test_a_limit_that_is_reached_tells_its_state() -> None:
    response = problem(RateLimited(retry_after_s=0.2, told=LimitState("customer", 5.0, 5, 0, 1.0)), "request-1")
    assert response.headers["RateLimit-Policy"] == '"customer";q=5;w=1'
    assert response.headers["RateLimit"] == '"customer";r=0;t=1'


def test_who_has_no_key_is_told_how_to_send_one() -> None:
    assert problem(errors.NotAuthenticated(), "request-1").headers["WWW-Authenticate"] == 'Bearer realm="paynow"'


@pytest.mark.parametrize(
    ("refusal", "challenge"),
    [
        (errors.InvalidToken("The token has expired"), 'error="invalid_token", error_description="The token has expired"'),
        (errors.MissingScope("Lacks it", scope="payments:read"), 'error="insufficient_scope", scope="payments:read"'),
    ],
    ids=["invalid_token", "insufficient_scope"],
)
def test_what_is_wrong_with_a_token_is_told_as_rfc_6750_has_it(refusal: Refusal, challenge: str) -> None:
    assert problem(refusal, "request-1").headers["WWW-Authenticate"] == f'Bearer realm="paynow", {challenge}'


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (web.HTTPBadRequest(), errors.InvalidRequest),
        (web.HTTPUnauthorized(), errors.NotAuthenticated),
        (web.HTTPForbidden(), errors.MissingScope),
        (web.HTTPNotFound(), errors.NotFound),
        (web.HTTPMethodNotAllowed("PUT", ["GET"]), errors.MethodNotAllowed),
        (web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2), errors.BodyTooLarge),
        (web.HTTPUnsupportedMediaType(), errors.NotJson),
        (web.HTTPExpectationFailed(), errors.InvalidRequest),
        (web.HTTPInternalServerError(), errors.InternalFault),
        (web.HTTPServiceUnavailable(), errors.InternalFault),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.code,
)
def test_aiohttps_own_refusals_become_ours(error: web.HTTPException, refusal: type[Refusal]) -> None:
    assert type(from_http_exception(error)) is refusal
