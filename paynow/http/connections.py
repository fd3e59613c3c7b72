"""What is answered before any middleware is reached: payments for which there is no room, bytes that are no HTTP, expectations nobody meets.

Of the latter two aiohttp would repeat the bytes to the caller: whoever sends them is told so in a problem without them, and the log names the class
of the fault.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from aiohttp import web
from loguru import logger

from paynow.errors import InvalidRequest, Refusal
from paynow.http.gate import Gate, is_whole
from paynow.http.problems import from_http_exception, problem
from paynow.observability.correlation import request_context

NO_HTTP = "The request cannot be read as HTTP/1.1"
UNMET = "Nothing but Expect: 100-continue can be expected"


class Connection(web.RequestHandler):
    """aiohttp's side of one connection, with answers of ours."""

    __slots__ = ("_gate", "_plain")

    def __init__(self, manager: web.Server, gate: Gate, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._gate = gate
        self._plain = True

    def data_received(self, data: bytes) -> None:
        """Refuses a payment by its bytes where there is no room: only on a connection that has never carried anything but whole requests for
        decisions, so that no piece of something else can be taken for one."""
        if self._plain and data:
            self._plain = is_whole(data)
            if self._plain:
                if self._gate.full and self._waits_for_a_request() and self.transport is not None:
                    self.transport.write(self._gate.refusal(data))
                    return
                self._gate.let_in()
        super().data_received(data)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """aiohttp asks for it after every body; where nothing was paused, nothing waits to be parsed either."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def _waits_for_a_request(self) -> bool:
        """Nothing is being answered, and who is connected reads what was answered before."""
        return self._waiter is not None and not self._waiter.done() and not self._paused

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
    """Runs an application on `Connection`s, behind one gate."""

    def __init__(self, app: web.Application, gate: Gate, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self._gate = gate

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        made.__class__ = _Connections  # aiohttp makes it from the application's insides, and has no other place to name the class
        made.gate = self._gate
        return made


class _Connections(web.Server):
    gate: Gate

    def __call__(self) -> web.RequestHandler:
        return Connection(self, self.gate, loop=self._loop, **self._kwargs)


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
