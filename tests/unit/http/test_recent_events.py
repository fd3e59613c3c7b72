"""Recent events over several workers: newest first, each once, in pages, and without those who do not answer."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from paynow.http import recent_events
from paynow.http.recent_events import Placed, RecentEvents
from paynow.observability.sharing import Shared


class Held:
    """A memory sink that holds these places, each with an event of its own name."""

    def __init__(self, *events: tuple[int, str]) -> None:
        self.events: list[Placed] = [(place, {"id": name}) for place, name in events]

    def recent(self, limit: int, before: int | None) -> list[Placed]:
        return [entry for entry in sorted(self.events, key=lambda entry: -entry[0]) if before is None or entry[0] < before][:limit]


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[list[RecentEvents]]:
    sinks = Held((10, "a"), (40, "d"), (50, "e")), Held((20, "b"), (30, "c"), (60, "e")), Held()
    opened = [RecentEvents(sink, Shared(Path(os.path.relpath(tmp_path)), number)) for number, sink in enumerate(sinks, 1)]
    for one in opened:
        await one.open()
    yield opened
    for one in opened:
        await one.close()


def names(found: list[Placed]) -> str:
    return "".join(event["id"] for _, event in found)


async def test_each_worker_tells_the_events_of_all_newest_first_and_each_once(workers: list[RecentEvents]) -> None:
    assert [names(await one.recent(10, None)) for one in workers] == ["edcba"] * 3


async def test_a_page_goes_on_where_the_one_before_ended_whichever_worker_is_asked(workers: list[RecentEvents]) -> None:
    first = await workers[0].recent(2, None)
    assert names(first) == "ed"
    assert names(await workers[2].recent(2, first[-1][0])) == "cb"


async def test_a_worker_that_is_dead_or_silent_is_left_out(workers: list[RecentEvents], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(recent_events, "ASK_MAX_S", 0.05)
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as silent:
        dead.bind("events_8.sock")
        silent.bind("events_9.sock")
        silent.listen()
        assert names(await RecentEvents(Held((70, "f")), Shared(Path(), 7)).recent(10, None)) == "fedcba"


async def test_one_process_tells_its_own() -> None:
    alone = RecentEvents(Held((1, "a"), (2, "b")), None)
    await alone.open()
    assert names(await asyncio.wait_for(alone.recent(1, None), 1)) == "b"
    await alone.close()
