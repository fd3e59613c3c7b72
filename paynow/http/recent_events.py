"""The events that the memory sinks of a service hold. One worker relays at a time, each for a while: so each asks the others for theirs.

They ask over sockets in the folder that only this service's processes can enter. Who does not answer is left out: what a memory sink holds ends
with its process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import orjson

from paynow.observability.sharing import Shared

Placed = tuple[int, Mapping[str, Any]]
"""An event with its place: the later it arrived the higher, and comparable over the processes of a machine."""

ASK_MAX_S = 0.5


class MemorySink(Protocol):
    """The memory sink, as far as it is read."""

    def recent(self, limit: int, before: int | None) -> list[Placed]:
        """At most `limit` events, newest first, with places below `before`."""


class RecentEvents:
    """Of this process, or of all workers once `open` has been called."""

    def __init__(self, sink: MemorySink, shared: Shared | None) -> None:
        self._sink = sink
        self._shared = shared
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Answers the other workers from now on."""
        if self._shared is not None:
            self._server = await asyncio.start_unix_server(self._answer, self._shared.file("events", "sock"))

    async def close(self) -> None:
        """Answers nobody any more."""
        if self._server is not None:
            self._server.close()

    async def recent(self, limit: int, before: int | None) -> list[Placed]:
        """At most `limit` events, newest first, each once, with places below `before`."""
        others = self._shared.files_of_others("events", "sock") if self._shared else []
        found = [self._sink.recent(limit, before), *await asyncio.gather(*(_ask(other, limit, before) for other in others))]
        by_id: dict[str, Placed] = {}
        for place, event in sorted((entry for entries in found for entry in entries), key=lambda entry: entry[0]):
            by_id.setdefault(event["id"], (place, event))
        return list(by_id.values())[: -limit - 1 : -1]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(ASK_MAX_S):
                limit, before = orjson.loads(await reader.readline())
                writer.write(orjson.dumps(self._sink.recent(limit, before)))
                await writer.drain()
        writer.close()


async def _ask(other: Path, limit: int, before: int | None) -> list[Placed]:
    try:
        async with asyncio.timeout(ASK_MAX_S):
            reader, writer = await asyncio.open_unix_connection(other)
            try:
                writer.write(orjson.dumps([limit, before]) + b"\n")
                answer = await reader.read(-1)
            finally:
                writer.close()
        return [(place, event) for place, event in orjson.loads(answer)]
    except (OSError, TimeoutError, ValueError):
        return []
