"""Everything that Python and its libraries would print by themselves is caught here and logged without its text.

Messages of the standard library's logging, warnings and tracebacks carry request bytes, reprs of tasks and values: only classes and places are kept.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from loguru import logger

from paynow.observability.tracebacks import short_path, type_name

if TYPE_CHECKING:
    from loguru import Logger

_SOURCES = ("task", "future", "handle", "transport", "protocol", "socket", "asyncgen")


def take_over(level: str) -> None:
    """Routes logging, warnings and uncaught exceptions of this process through loguru.

    A library's lines are useless without their text unless something is wrong, so those below WARNING are taken at DEBUG and TRACE only.
    """
    logging.raiseExceptions = False  # else a handler that fails prints the message with its arguments
    for known in logging.Logger.manager.loggerDict.values():
        if isinstance(known, logging.Logger):
            known.handlers.clear()
            known.propagate = True
    logging.root.handlers[:] = [_LibraryLines()]
    logging.root.setLevel(logging.NOTSET if level in ("TRACE", "DEBUG") else logging.WARNING)
    warnings.showwarning = _show_warning
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _uncaught_in_thread


def loop_exception_handler(_loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """For `loop.set_exception_handler`: logs the exception's class and frames and what it happened in (`task`, `transport`, …), not the message."""
    error = context.get("exception")
    source = next((name for name in _SOURCES if name in context), None)
    bound = logger.bind(source=source) if source else logger
    bound.opt(exception=error if isinstance(error, BaseException) else None).error("unhandled error in the event loop")


class _LibraryLines(logging.Handler):
    """The only handler of the root logger."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            raised = record.exc_info if isinstance(record.exc_info, tuple) else None
            place = _at(record.pathname, record.funcName, record.lineno)
            place.bind(logger=_module(record.name)).opt(exception=raised).log(_level(record.levelno), "library log")
        except Exception:  # a record can be built by hand, of anything
            logger.warning("a library's log record could not be read")


def _at(filename: str, function: str | None, line: int) -> Logger:
    """A logger whose lines say that they come from there."""
    module = short_path(filename).removesuffix(".py").replace("/", ".")
    place = {"name": module, "function": function if function and function.isidentifier() else "<module>", "line": int(line)}
    return logger.patch(lambda record: record.update(place))


def _module(name: object) -> str:
    """A logger's name as far as it is a module that is loaded. The rest of it may have been put together from anything."""
    while type(name) is str and name:
        if name in sys.modules:
            return name
        name = name.rpartition(".")[0]
    return "other"


def _level(number: int) -> str:
    steps = ((logging.CRITICAL, "CRITICAL"), (logging.ERROR, "ERROR"), (logging.WARNING, "WARNING"), (logging.INFO, "INFO"))
    return next((name for least, name in steps if number >= least), "DEBUG")


def _show_warning(
    _message: Warning | str, category: type[Warning], filename: str, lineno: int, _file: TextIO | None = None, _line: str | None = None
) -> None:
    _at(filename, None, lineno).bind(error=type_name(category)).warning("python warning")


def _uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logger.opt(exception=(kind, error, trace)).critical("uncaught exception")


def _uncaught_in_thread(raised: threading.ExceptHookArgs) -> None:
    if raised.exc_type is not SystemExit:
        logger.opt(exception=(raised.exc_type, raised.exc_value, raised.exc_traceback)).error("uncaught exception in a thread")


def _unraisable(raised: Any) -> None:
    logger.opt(exception=(raised.exc_type, raised.exc_value, raised.exc_traceback)).error("exception where none can be raised")
