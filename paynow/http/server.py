"""The web application out of the route table, and the server that runs it until it is told to stop."""

from __future__ import annotations

from aiohttp import HttpVersion11, web
from loguru import logger

from paynow.clock import Clock
from paynow.http import case_handlers, docs, handlers, list_handlers, middlewares, policy_handlers
from paynow.http.connections import Runner
from paynow.http.routing import ROUTES, Route
from paynow.http.services import SERVICES, Services
from paynow.observability.spans import Spans

HANDLERS = (handlers, case_handlers, list_handlers, policy_handlers, docs)
"""The modules that hold one function a route."""


def make_application(services: Services, *, request_max_bytes: int, spans: Spans | None = None, follow_traceparent: bool = True) -> web.Application:
    """Routes and middlewares, the first the outermost."""
    traced = [] if spans is None else [middlewares.request_spans(spans)]
    app = web.Application(
        middlewares=[
            middlewares.request_ids(follow_traceparent=follow_traceparent),
            *traced,
            middlewares.access_log,
            middlewares.problem_answers,
            middlewares.authentication,
        ],
        client_max_size=request_max_bytes,
    )
    app[SERVICES] = services
    for route in ROUTES:
        handler = handler_of(route)
        path = _path(route)
        app.router.add_route(route.method, path, handler, name=route.name, expect_handler=_go_on)
        if route.method == "GET":
            app.router.add_route("HEAD", path, handler, expect_handler=_go_on)
    return app


def handler_of(route: Route) -> handlers.Handler:
    """The function that has the route's name."""
    return next(getattr(module, route.name) for module in HANDLERS if hasattr(module, route.name))


def _path(route: Route) -> str:
    """The route's path for aiohttp: a parameter at its end does not take the word of a route beside it (`GET /api/payments/decide` is 405)."""
    above, _, last = route.path.rpartition("/")
    words = [word for prefix, _, word in (other.path.rpartition("/") for other in ROUTES) if prefix == above and "{" not in word]
    return f"{above}/{{{last[1:-1]}:(?!(?:{'|'.join(words)})$)[^/]+}}" if last.startswith("{") and words else route.path


async def _go_on(request: web.Request) -> None:
    """Asks for the body that a caller holds back. Other expectations are passed over, as RFC 9110 (10.1.1) permits: aiohttp would refuse them
    outside of all middlewares, with their text in the answer."""
    if request.version >= HttpVersion11 and request.headers["Expect"].lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


class Server:
    """Listens on one address. `stop` makes readiness red and goes on for `drain_s`; then it takes no new connections, lets what is under way
    finish within `grace_s`, and closes the rest.

    `shares_port` lets other processes of the same user listen there too (SO_REUSEPORT); the system spreads new connections over them.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        host: str,
        port: int,
        drain_s: float,
        grace_s: float,
        clock: Clock,
        shares_port: bool = False,
    ) -> None:
        self._app = app
        self._drain_s = drain_s
        self._clock = clock
        self._listens = False
        self._runner = Runner(app, app[SERVICES].gate, access_log=None, handle_signals=False, shutdown_timeout=grace_s)
        self._host = host
        self._port = port
        self._shares_port = shares_port

    async def start(self) -> int:
        """Starts listening and says on which port (0 in the settings takes a free one)."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=1024, reuse_port=self._shares_port)
        await site.start()
        self._listens = True
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Readiness goes red first: who looks there has `drain_s` to turn away before connections are refused."""
        self._app[SERVICES].stopping = True
        if self._listens and self._drain_s:
            logger.info("draining")
            await self._clock.sleep(self._drain_s)
        await self._runner.cleanup()
