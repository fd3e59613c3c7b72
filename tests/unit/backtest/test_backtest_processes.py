"""Ctrl-C at the worst moment: while the processes of a backtest are being begun."""

from __future__ import annotations

import multiprocessing
import signal
from concurrent.futures import process
from types import SimpleNamespace

import pytest

from paynow.backtest.processes import side_by_side


class Nothing:
    """A task that is never reached: there is no database."""

    def begin(self, past: object) -> None:
        """Nothing to make ready."""

    def __call__(self, part: int) -> int:
        return part


def test_an_interrupt_between_the_processes_and_the_thread_that_watches_them_ends_both(monkeypatch: pytest.MonkeyPatch) -> None:
    start = process._ExecutorManagerThread.start

    def interrupted(thread: process._ExecutorManagerThread) -> None:
        signal.raise_signal(signal.SIGINT)
        start(thread)

    monkeypatch.setattr(process._ExecutorManagerThread, "start", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(side_by_side(SimpleNamespace(snapshot="none"), "host=/nowhere", Nothing(), iter(range(4)), 2))
        assert multiprocessing.active_children() == []
    finally:
        for child in multiprocessing.active_children():
            child.kill()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
