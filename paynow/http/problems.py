"""Refusals as RFC 9457 problem answers. What stands in them is ours: nothing that a caller sent is repeated."""

from __future__ import annotations

import math

import orjson
from aiohttp import web

from paynow import errors
from paynow.errors import Refusal
from paynow.http.rate_headers import rate_headers

_BY_STATUS: dict[int, type[Refusal]] = {
    400: errors.InvalidRequest,
    401: errors.NotAuthenticated,
    403: errors.MissingScope,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.BodyTooLarge,
    415: errors.NotJson,
}

RETRY_AFTER_DEFAULT_S = 1.0
"""What is answered if a retry may help and nobody said when."""


def problem(refusal: Refusal, request_id: str) -> web.Response:
    """The answer that tells a refusal."""
    document = {
        "type": f"/docs/errors/{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
        "code": refusal.code,
        "retryable": refusal.retryable,
        "requestId": request_id,
    }
    if refusal.errors:
        document["errors"] = [{"field": fault.field, "code": fault.code, "message": fault.message} for fault in refusal.errors]
    if isinstance(refusal, errors.CaseHeld) and refusal.held_by is not None:
        document["heldBy"] = refusal.held_by
    response = web.Response(body=orjson.dumps(document), status=refusal.status, content_type="application/problem+json")
    retry_after_s = refusal.retry_after_s
    if retry_after_s is None and refusal.retryable:
        retry_after_s = RETRY_AFTER_DEFAULT_S
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
    if challenge := _challenge(refusal):
        response.headers["WWW-Authenticate"] = challenge
    if isinstance(refusal, errors.RateLimited) and refusal.told is not None:
        response.headers.update(rate_headers(refusal.told))
    return response


def _challenge(refusal: Refusal) -> str | None:
    """What has to be shown instead, as RFC 6750 (section 3) says it."""
    if isinstance(refusal, errors.InvalidToken):
        return f'Bearer realm="paynow", error="invalid_token", error_description="{refusal.detail}"'
    if isinstance(refusal, errors.MissingScope) and refusal.scope is not None:
        return f'Bearer realm="paynow", error="insufficient_scope", scope="{refusal.scope}"'
    return 'Bearer realm="paynow"' if refusal.status == 401 else None


def from_http_exception(error: web.HTTPException) -> Refusal:
    """aiohttp's own refusals (no such route, wrong method, body too large) as ours."""
    return _BY_STATUS.get(error.status, errors.InternalFault if error.status >= 500 else errors.InvalidRequest)()
