"""The floor: what aiohttp, the strict body parse and the schema cost alone. No key, no database, no log; the body is echoed."""

from __future__ import annotations

import gc
import sys

import orjson
from aiohttp import web

from paynow.http.body import read_json_object
from paynow.http.decide_request import KNOWN_FIELDS
from paynow.http.schemas import DecideSchema

SCHEMA = DecideSchema()
HEADERS = {"Content-Type": "application/json"}


async def echo(request: web.Request) -> web.Response:
    document = await read_json_object(request, KNOWN_FIELDS)
    SCHEMA.load(document)
    return web.Response(body=orjson.dumps(document), headers=HEADERS)


if __name__ == "__main__":
    gc.freeze()  # its collector is as calm as PayNow's
    gc.set_threshold(20_000, 20, 20)
    app = web.Application()
    app.router.add_post("/api/payments/decide", echo)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None)
