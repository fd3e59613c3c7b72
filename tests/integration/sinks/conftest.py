"""Sinks made as a boot makes them, closed at the end of the test; nothing of them may go on after that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from paynow.plugin_api import EventSink
from paynow.plugin_loader import load_plugins
from paynow.settings.load import load

SinkOf = Callable[..., EventSink]


@pytest.fixture
async def sink_of(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SinkOf]:
    """`sink_of("kafka", environ, topic="t")`: the sink with these secrets and with these keys of its table."""
    monkeypatch.chdir(tmp_path)
    made: list[EventSink] = []

    def make(name: str, environ: dict[str, str], **keys: Any) -> EventSink:
        settings = load(None, environ).settings
        table = replace(getattr(settings.events, name), **keys)
        sink = load_plugins(replace(settings, events=replace(settings.events, sinks=(name,), **{name: table}))).sinks[name]
        made.append(sink)
        return sink

    before = asyncio.all_tasks()
    yield make
    for sink in made:
        await sink.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before | {asyncio.current_task()}
