"""From loguru's record to one written line: JSON for programs, or text for people, both after the same redaction.

Everything is taken out of the record before loguru formats it or reports a fault of its own, so that loguru never holds a value to print.
That happens in the filter, the first of ours that loguru calls with a record: a format function would do too, at 3 µs more a line.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from threading import RLock, get_ident
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

import orjson

from paynow.clock import rfc3339
from paynow.observability.correlation import current_serving
from paynow.observability.redaction import Redactor
from paynow.observability.tracebacks import describe, type_name

if TYPE_CHECKING:
    from loguru import Message

EVENT_WITHHELD = "message withheld: it is not a constant where it was logged"
LINE_FAILED = "a log line could not be written"

_PLACE = re.compile(r"(?!.*[0-9]{7})[A-Za-z0-9_.]{1,120}:[A-Za-z0-9_<>]{1,120}:[0-9]+")
_EVENTS_MAX = 4096
_CALLERS_MAX = 3
WARNING = 30
"""loguru's number of that level."""


class LineWriter:
    """loguru's filter and sink in one: `render`, then `write`, for each line. Neither of them raises."""

    def __init__(self, redactor: Redactor, form: Callable[[Mapping[str, Any]], str], stream: TextIO) -> None:
        self._redactor = redactor
        self._form = form
        self._stream = stream
        self._events: set[str] = set()
        self._second = (0, "")
        self._writing_thread: int | None = None
        self._lost_lines = 0
        self._pending: list[Message] = []
        self._pending_lock = RLock()
        self._due_on: asyncio.AbstractEventLoop | None = None

    def render(self, record: dict[str, Any]) -> bool:
        """Puts the finished line in the place of the record's message and empties the rest.

        Refuses a line that is logged while this thread writes another (a finaliser can): loguru's lock cannot be taken twice.
        """
        if self._writing_thread == get_ident():
            self._lost_lines += 1
            return False
        try:
            line = self._form(self._describe(record))
        except Exception as error:  # whatever it was, the caller must not notice and the line must hold no value
            line = self._form({"time": rfc3339(record["time"]), "level": "ERROR", "event": LINE_FAILED, "error": type_name(type(error))})
        record["message"], record["extra"], record["exception"] = line, {}, None
        return True

    def write(self, line: Message) -> None:
        """Writes and flushes; on an event loop what is logged in one of its turns is written together at the next, unless it warns of something."""
        with self._pending_lock:
            self._pending.append(line)
        loop = asyncio._get_running_loop() if line.record["level"].no < WARNING else None
        if loop is None:
            self.stop()
        elif self._due_on is not loop:
            self._due_on = loop
            loop.call_soon(self.stop)

    def stop(self) -> None:
        """Writes what waits; loguru calls it when the sink is removed, at the end of the process too.

        Lines that the stream does not take are counted, and the next one that it takes says so.
        """
        self._due_on = None
        with self._pending_lock:
            self._writing_thread = get_ident()
            try:
                lines, self._pending = self._pending, []
                if lines:
                    self._put(lines)
            finally:
                self._writing_thread = None

    def _put(self, lines: list[Message]) -> None:
        try:
            self._stream.write("".join(lines))
            self._stream.flush()
        except Exception:  # a full disk or a closed pipe is no reason to fail a payment
            self._lost_lines += len(lines)
        else:
            told = sum(line.record.get("lost_lines", 0) for line in lines) if self._lost_lines else 0
            self._lost_lines = max(0, self._lost_lines - told)

    def _describe(self, record: dict[str, Any]) -> dict[str, Any]:
        line: dict[str, Any] = {
            "time": self._time(record["time"]),
            "level": record["level"].name,
            "event": self._event(record["message"]),
            "where": _where(record["name"], record["function"], record["line"]),
        }
        if serving := current_serving():
            line["request_id"] = serving.request_id
            if serving.trace:
                line["trace_id"] = serving.trace.trace_id
        self._redactor.write(record["extra"], line)
        if (raised := record["exception"]) and raised.value is not None:
            line["exception"] = describe(raised.value, raised.traceback)
        if self._lost_lines:
            line["lost_lines"] = record["lost_lines"] = self._lost_lines
        return line

    def _time(self, moment: datetime) -> str:
        """RFC 3339 in UTC; the text of the current second is kept, which halves the cost."""
        second = int(moment.timestamp())
        if self._second[0] != second:
            self._second = (second, rfc3339(moment)[:-5])
        return f"{self._second[1]}.{moment.microsecond // 1000:03d}Z"

    def _event(self, message: str) -> str:
        """The message, if it is a constant of the code that logged it. One that was put together at run time may hold anything."""
        if message in self._events:
            return message
        if not any(message == constant for frame in _callers() for constant in frame.f_code.co_consts if type(constant) is str):
            return EVENT_WITHHELD
        if len(self._events) < _EVENTS_MAX:
            self._events.add(message)
        return message


@lru_cache(maxsize=2048)
def _where(module: str | None, function: str, line: int) -> str:
    """The place in code; generated code can call its modules and functions anything."""
    place = f"{module}:{function}:{line}"
    return place if _PLACE.fullmatch(place) else "<generated>"


def _callers() -> Iterator[FrameType]:
    """The frames outside loguru that the line came from: the one that called it, and two more for those that log with `opt(depth=…)`."""
    frame: FrameType | None = sys._getframe()
    while frame and not _is_loguru(frame):
        frame = frame.f_back
    while frame and _is_loguru(frame):
        frame = frame.f_back
    for _ in range(_CALLERS_MAX):
        if frame:
            yield frame
            frame = frame.f_back


def _is_loguru(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "loguru"


def json_form(line: Mapping[str, Any]) -> str:
    """One JSON object."""
    return orjson.dumps(line).decode()
