"""What aiohttp answers before any middleware is reached: bytes that are no HTTP, and expectations nobody meets. It would repeat them to the caller.

Knows nothing of routes: whoever sends such bytes is told so in a problem without them, and the log names the class of the fault.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from aiohttp import web
from loguru import logger

from paynow.errors import InvalidRequest, Refusal
from paynow.http.problems import from_http_exception, problem
from paynow.observability.correlation import request_context

NO_HTTP = "The request cannot be read as HTTP/1.1"
UNMET = "Nothing but Expect: 100-continue can be expected"


class Connection(web.RequestHandler):
    """aiohttp's side of one connection, with answers of ours."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """An answer to what could not be parsed (400), or to a fault outside our middlewares, which aiohttp logs. The connection ends with it."""
        if status >= 500:
            super().handle_error(request, status, exc, message)
            return _ended(web.HTTPInternalServerError())
        if request.writer.output_size > 0:
            raise ConnectionError("half an answer has been sent already")
        return _ended(InvalidRequest(NO_HTTP), exc)

    async def finish_response(self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None) -> tuple[web.StreamResponse, bool]:
        """Only an expectation is refused by an exception that has not met our middlewares."""
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            resp = _ended(InvalidRequest(UNMET) if resp.status == 417 else resp)
        return await super().finish_response(request, resp, start_time)


class Runner(web.AppRunner):
    """Runs an application on `Connection`s."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        made.__class__ = _Connections  # aiohttp makes it from the application's insides, and has no other place to name the class
        return made


class _Connections(web.Server):
    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


def _ended(refused: Refusal | web.HTTPException, error: BaseException | None = None) -> web.Response:
    refusal = from_http_exception(refused) if isinstance(refused, web.HTTPException) else refused
    request_id = uuid4().hex
    with request_context(request_id):
        bound: Any = logger.bind(error=type(error).__name__) if error else logger
        bound.bind(status=refusal.status).info("request refused before it was read")
    response = problem(refusal, request_id)
    response.headers["X-Request-Id"] = request_id
    response.force_close()
    return response
