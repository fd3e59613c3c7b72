"""What libraries and Python itself would print is logged without its text."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import warnings
from types import SimpleNamespace

import aiohttp.log
import pytest

from paynow.observability.logs import loop_exception_handler

SECRET = "4111111111111111"


def raised(kind: type[BaseException] = ValueError) -> BaseException:
    try:
        raise kind(SECRET)
    except kind as error:
        return error


def test_a_librarys_line_says_where_and_which_exception_but_not_what(written) -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        aiohttp.log.server_logger.exception("Error handling request from %s", SECRET)
    line = written.line
    assert line["event"] == "library log"
    assert line["level"] == "ERROR"
    assert line["logger"] == "aiohttp"
    assert "test_log_intake:test_a_librarys_line_says_where" in line["where"]
    assert line["exception"]["type"] == "ValueError"
    assert SECRET not in written.text


@pytest.mark.parametrize(
    ("number", "level"), [(5, "DEBUG"), (10, "DEBUG"), (20, "INFO"), (25, "INFO"), (30, "WARNING"), (40, "ERROR"), (50, "CRITICAL"), (99, "CRITICAL")]
)
def test_levels_are_kept(written, number, level) -> None:
    logging.getLogger("asyncio").log(number, SECRET)
    assert written.line["level"] == level


def test_a_librarys_lines_below_warning_are_taken_at_debug_only(configured) -> None:
    written = configured(level="INFO")
    logging.getLogger("asyncio").info("chatter")
    assert written.text == ""
    written = configured(level="DEBUG")
    logging.getLogger("asyncio").info("chatter")
    assert written.line["event"] == "library log"


def test_a_loggers_name_is_shown_as_far_as_it_is_a_module(written) -> None:
    for name in ("asyncio.tasks.x", f"customer.{SECRET}", SECRET, "aiohttp.access"):
        logging.getLogger(name).warning("x")
    assert [line["logger"] for line in written.lines] == ["asyncio.tasks", "other", "other", "aiohttp"]


def test_handlers_that_a_library_installed_before_are_taken_away(configured, capfd) -> None:
    chatty = logging.getLogger("chatty")
    chatty.addHandler(logging.StreamHandler(sys.stderr))
    chatty.propagate = False
    written = configured()
    chatty.warning(SECRET)
    assert written.line["event"] == "library log"
    assert capfd.readouterr() == ("", "")


def test_a_record_that_was_built_by_hand_of_anything_is_survived(written, capfd) -> None:
    record = logging.makeLogRecord({"name": object(), "levelno": 30, "msg": object(), "pathname": None, "lineno": SECRET, "exc_info": True})
    logging.getLogger().handle(record)
    assert written.line["event"] == "a library's log record could not be read"
    assert capfd.readouterr() == ("", "")


def test_arguments_that_cannot_be_formatted_are_not_printed(written, capfd) -> None:
    logging.getLogger("asyncio").warning("%d", SECRET + "x")
    assert written.line["event"] == "library log"
    assert capfd.readouterr() == ("", "")


def test_a_warning_says_which_kind_and_where(written) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(SECRET, ResourceWarning, stacklevel=1)
    assert written.line["event"] == "python warning"
    assert written.line["error"] == "ResourceWarning"
    assert "test_log_intake:<module>:" in written.line["where"]
    assert SECRET not in written.text


async def test_an_error_in_the_loop_says_what_it_happened_in_and_which_exception(configured) -> None:
    written = configured(level="INFO")
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(loop_exception_handler)
    done = asyncio.Event()

    def fail() -> None:
        loop.call_soon(done.set)
        raise ValueError(SECRET)

    loop.call_soon(fail)
    await done.wait()
    assert written.line["event"] == "unhandled error in the event loop"
    assert written.line["source"] == "handle"
    assert written.line["exception"]["type"] == "ValueError"
    assert SECRET not in written.text


@pytest.mark.parametrize("context", [{}, {"exception": None}, {"exception": SECRET}, {"exception": (SECRET,)}])
def test_an_error_in_the_loop_without_an_exception_is_logged_too(written, context) -> None:
    loop_exception_handler(asyncio.AbstractEventLoop(), {"message": SECRET, **context})
    assert "exception" not in written.line
    assert SECRET not in written.text


def test_an_uncaught_exception_is_a_line_instead_of_a_traceback(written, capfd) -> None:
    error = raised()
    sys.excepthook(type(error), error, error.__traceback__)
    assert written.line["event"] == "uncaught exception"
    assert written.line["level"] == "CRITICAL"
    assert written.line["exception"]["type"] == "ValueError"
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_from_the_keyboard_stays_pythons(written, capsys) -> None:
    error = raised(KeyboardInterrupt)
    sys.excepthook(type(error), error, None)
    assert written.text == ""
    assert "KeyboardInterrupt" in capsys.readouterr().err


def test_an_uncaught_exception_in_a_thread_is_a_line(written, capfd) -> None:
    def fail() -> None:
        raise ValueError(SECRET)

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert written.line["event"] == "uncaught exception in a thread"
    assert written.line["exception"]["type"] == "ValueError"
    assert SECRET not in written.text + "".join(capfd.readouterr())


def test_a_thread_that_exits_is_no_event(written) -> None:
    thread = threading.Thread(target=sys.exit)
    thread.start()
    thread.join()
    assert written.text == ""


def test_an_exception_in_a_finaliser_is_a_line(written, capfd) -> None:
    class Failing:
        def __del__(self) -> None:
            raise ValueError(SECRET)

    Failing()
    assert written.line["event"] == "exception where none can be raised"
    assert written.line["exception"]["type"] == "ValueError"
    assert SECRET not in written.text + "".join(capfd.readouterr())
    sys.unraisablehook(SimpleNamespace(exc_type=ValueError, exc_value=None, exc_traceback=None))
    assert "exception" not in written.lines[-1]
