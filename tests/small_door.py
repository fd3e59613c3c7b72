"""The reading half of the door on a server of its own: real middlewares and reading code, and behind them nothing but an echo of what was read."""

from __future__ import annotations

from aiohttp import web

from bad_bodies import REQUEST_MAX_BYTES
from paynow.http import middlewares, paging
from paynow.http.body import read_json_object
from paynow.http.decide_request import KNOWN_FIELDS, read_decide_request


def small_door() -> web.Application:
    """`POST /decide` answers with the request as it was understood, `GET /page` with the page's query."""
    app = web.Application(middlewares=[middlewares.request_ids(), middlewares.problem_answers], client_max_size=REQUEST_MAX_BYTES)
    app.router.add_post("/decide", _decide)
    app.router.add_get("/page", _page)
    return app


async def _decide(request: web.Request) -> web.Response:
    document = await read_json_object(request, KNOWN_FIELDS)
    asked = read_decide_request(document, request.headers.getall("Idempotency-Key", []), request[middlewares.REQUEST_ID])
    return web.json_response({**asked._asdict(), "fingerprint": asked.fingerprint.hex()})


async def _page(request: web.Request) -> web.Response:
    query = paging.read(request, filters={"customerId": (), "decision": ("allow", "review", "block")})
    return web.json_response({"limit": query.limit, "cursor": query.cursor, "filters": dict(query.filters)})
