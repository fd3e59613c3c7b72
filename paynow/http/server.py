"""The web application out of the route table, and the server that runs it until it is told to stop."""

from __future__ import annotations

from aiohttp import web

from paynow.http import docs, handlers, middlewares
from paynow.http.routing import ROUTES
from paynow.http.services import SERVICES, Services


def make_application(services: Services, *, request_max_bytes: int) -> web.Application:
    """Routes and middlewares, the first the outermost."""
    app = web.Application(
        middlewares=[middlewares.request_ids, middlewares.access_log, middlewares.problem_answers, middlewares.authentication],
        client_max_size=request_max_bytes,
    )
    app[SERVICES] = services
    for route in ROUTES:
        handler = getattr(handlers, route.name, None) or getattr(docs, route.name)
        app.router.add_route(route.method, route.path, handler, name=route.name)
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, handler)
    return app


class Server:
    """Listens on one address. `stop` takes no new connections, lets what is under way finish within the grace, and closes the rest.

    `shares_port` lets other processes of the same user listen there too (SO_REUSEPORT); the system spreads new connections over them.
    """

    def __init__(self, app: web.Application, *, host: str, port: int, grace_s: float, shares_port: bool = False) -> None:
        self._app = app
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=grace_s)
        self._host = host
        self._port = port
        self._shares_port = shares_port

    async def start(self) -> int:
        """Starts listening and says on which port (0 in the settings takes a free one)."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=1024, reuse_port=self._shares_port)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Readiness goes red first."""
        self._app[SERVICES].stopping = True
        await self._runner.cleanup()
