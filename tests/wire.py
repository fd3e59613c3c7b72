"""The wire between PayNow and PostgreSQL, for tests that cut it at a chosen statement."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from psycopg2.extensions import make_dsn, parse_dsn

from database import server_folder

SOCKET = ".s.PGSQL.5432"


class Wire:
    """Passes everything on, both ways; `dsn` leads through it.

    After `lose_answers(word, times=n)` the server still gets and finishes the next n statements that hold this word, but their connections end
    before the answer arrives. `lost` counts them. After `reboot()` all connections so far are dead, and are told so when they next send something:
    so it is when the server's host has lost its power.
    """

    def __init__(self, folder: Path, dsn: str) -> None:
        self.dsn = make_dsn(dsn, host=str(folder))
        self.lost = 0
        self._server = Path(parse_dsn(dsn)["host"]) / SOCKET
        self._word = b""
        self._losses = 0
        self._boots = 0

    def reboot(self) -> None:
        self._boots += 1

    def lose_answers(self, word: str, *, times: int) -> None:
        self._word = word.encode()
        self._losses = times

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it or its answer is lost."""
        server, to_server = await asyncio.open_unix_connection(self._server)
        lost, booted = False, self._boots

        async def ask() -> None:
            nonlocal lost
            while (data := await client.read(1 << 20)) and booted == self._boots:
                if self._losses and self._word in data:
                    self._losses -= 1
                    self.lost += 1
                    lost = True
                to_server.write(data)

        async def answer() -> None:
            while (data := await server.read(1 << 20)) and not lost:
                to_client.write(data)

        ways = [asyncio.create_task(ask()), asyncio.create_task(answer())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for writer in (to_client, to_server):
                writer.close()
            for writer in (to_client, to_server):
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()


@contextlib.asynccontextmanager
async def wire_to(dsn: str) -> AsyncIterator[Wire]:
    """A wire to the server of this DSN; at the end it is cut for all who still use it."""
    with server_folder() as folder:
        wire = Wire(folder, dsn)
        serving: set[asyncio.Task[None]] = set()

        def connected(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
            serving.add(asyncio.ensure_future(wire.serve(client, to_client)))

        listener = await asyncio.start_unix_server(connected, folder / SOCKET)
        try:
            yield wire
        finally:
            listener.close()
            for connection in serving:
                connection.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
            await listener.wait_closed()
