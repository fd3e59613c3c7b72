"""Configured logging that leaves the test process as it was."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from loguru import logger

from paynow.observability import logs
from paynow.settings.model import LoggingSettings

HASH_KEY = b"a key for tests only"


class Written(io.StringIO):
    """What was logged: as text, and as the objects of its JSON lines."""

    @property
    def text(self) -> str:
        return self.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def line(self) -> dict[str, Any]:
        (only,) = self.lines
        return only


Configure = Callable[..., Written]


@pytest.fixture
def configured() -> Iterator[Configure]:
    root, hooks = logging.root, (sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning)
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions

    def configure(*, level: str = "TRACE", form: str = "json", plugin_fields: tuple[str, ...] = (), **more: Any) -> Written:
        written = Written()
        logs.configure(LoggingSettings(level, form, plugin_fields), **{"hash_key": HASH_KEY, "stream": written} | more)
        return written

    yield configure
    logger.remove()
    root.handlers[:], root.level, logging.raiseExceptions = handlers, level, raises
    sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning = hooks
    logging.Logger.manager._clear_cache()


@pytest.fixture
def written(configured: Configure) -> Written:
    """Everything is logged, as JSON."""
    return configured()
