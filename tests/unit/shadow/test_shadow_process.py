"""The service's side of shadow policies, with programs in place of the one that reads along."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from paynow.clock import Clock
from paynow.shadow import process
from paynow.shadow.follower import Handover
from paynow.shadow.process import ShadowProcess

PROGRAMS = {
    "cannot be started": (["/nowhere/python"], "FileNotFoundError"),
    "says why": ([sys.executable, "-c", "import os; os.write(1, b'DatabaseFailed')"], "DatabaseFailed"),
    "says something else": ([sys.executable, "-c", "print('card 4111 1111 1111 1111 ' * 9999)"], "it wrote"),
    "dies": ([sys.executable, "-c", "import os; os._exit(3)"], "exit code 3"),
}


@pytest.mark.parametrize(("program", "told"), PROGRAMS.values(), ids=PROGRAMS)
async def test_however_it_ends_another_takes_its_place_later_and_later(
    monkeypatch: pytest.MonkeyPatch, logged: list[dict[str, Any]], program: list[str], told: str
) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr(process, "_command", lambda: program)
    kept = ShadowProcess(Handover("", (), {}), (), None, None, Clock(sleep=sleep))  # nothing is shown here
    with pytest.raises(asyncio.CancelledError):
        await kept.keep()
    assert waited == [1, 2, 4]
    said = [line["error"] for line in logged if line["message"] == "the process of the shadow policies ended, another takes its place"]
    assert len(said) == 3
    assert all(one.startswith(told) for one in said)
