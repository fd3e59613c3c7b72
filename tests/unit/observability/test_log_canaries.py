"""Personal data that is thrown at the log in every way that we know comes out nowhere, at any level, in either form."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import warnings

import pytest
from loguru import logger

from paynow.observability import logs
from paynow.observability.lines import LINE_FAILED

PAN, MAIL, CUSTOMER, NAME = "4111111111111111", "ann.canary@example.com", "c_canary_123", "Ann Canary"
CANARIES = (PAN, MAIL, CUSTOMER, NAME, "canary", "411111")
LEVELS = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")
VALUES = (PAN, int(PAN), float(PAN), MAIL, NAME, PAN.encode(), [PAN], {"a": MAIL}, {PAN: 1}, (NAME,), {MAIL}, Exception(PAN))


def cyclic() -> list[object]:
    loop: list[object] = [PAN]
    loop.append(loop)
    return loop


class Talkative:
    def __repr__(self) -> str:
        return MAIL

    __str__ = __repr__
    __format__ = lambda self, _spec: MAIL  # noqa: E731
    __hash__ = None


def through_fields(level: str) -> None:
    for value in (*VALUES, cyclic(), Talkative(), PAN * 100_000, [MAIL] * 100_000):
        logger.bind(tool=value, attempt=value, error=value, route=value, reasons=[value], payment_id=value, note=value).log(level, "fields")


def through_sensitive_fields(level: str) -> None:
    logger.bind(customer_id=CUSTOMER, payee_id=MAIL, device=PAN).log(level, "hashed")


def through_names_of_fields(level: str) -> None:
    logger.bind(**{PAN: 1, MAIL: 2, NAME: 3}).log(level, "names")
    logger.patch(lambda record: record["extra"].update({1: PAN, (MAIL,): NAME, None: CUSTOMER})).log(level, "names")


def through_messages(level: str) -> None:
    logger.log(level, f"card {PAN}")
    logger.log(level, "mail {}", MAIL)
    logger.log(level, "name {name}", name=NAME)
    logger.opt(raw=True).log(level, f"raw {CUSTOMER}")
    logger.opt(colors=True).log(level, f"<red>{PAN}</red>")
    logger.opt(record=True).log(level, "{record[extra]}" + MAIL)
    logger.opt(lazy=True).log(level, "lazy {}", lambda: PAN)
    logger.patch(lambda record: record.update(message=MAIL)).log(level, "patched")


def through_exceptions(level: str) -> None:
    local_value = PAN
    try:
        try:
            int(MAIL)
        except ValueError as error:
            error.add_note(local_value)
            raise KeyError(CUSTOMER, NAME) from error
    except KeyError as error:
        logger.opt(exception=error).log(level, "chain")
    try:
        raise ExceptionGroup(PAN, [ValueError(MAIL), ExceptionGroup(NAME, [OSError(2, PAN, MAIL)])])
    except ExceptionGroup:
        logger.opt(exception=True).log(level, "group")
    logger.opt(exception=type(f"Card{PAN}", (Exception,), {"__module__": MAIL})(NAME)).log(level, "class")
    logger.opt(exception=UnicodeDecodeError("utf-8", PAN.encode(), 0, 1, MAIL)).log(level, "bytes")
    logger.opt(exception=(ValueError, None, None)).log(level, "empty")


def through_a_decorator(level: str) -> None:
    @logger.catch(level=level, message=f"failed for {CUSTOMER}")
    def fail(_card: str) -> None:
        raise ValueError(MAIL)

    fail(PAN)


def through_the_standard_library(level: str) -> None:
    number = logging.getLevelName(level) if level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL") else 10
    for name in ("aiohttp.server", "asyncio", "psycopg2", PAN, f"customer.{CUSTOMER}", MAIL):
        logging.getLogger(name).log(number, f"{PAN} %s %(a)s", MAIL, extra={"customer": CUSTOMER, "a": NAME})
        logging.getLogger(name).log(number, Talkative(), stack_info=True)
        try:
            raise ValueError(PAN)
        except ValueError:
            logging.getLogger(name).log(number, "with", exc_info=True)


def through_warnings(_level: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"unclosed {PAN}", ResourceWarning, stacklevel=1)
        warnings.warn_explicit(MAIL, type(f"W{PAN}", (Warning,), {}), f"/home/{NAME}/{MAIL}.py", 1)


def through_hooks(_level: str) -> None:
    def fail() -> None:
        raise ValueError(PAN)

    thread = threading.Thread(target=fail, name=MAIL)
    thread.start()
    thread.join()
    try:
        fail()
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
        context = {"message": MAIL, "exception": error, "task": Talkative(), PAN: PAN}
        logs.loop_exception_handler(asyncio.AbstractEventLoop(), context)


def through_request_ids(level: str) -> None:
    for request_id in (PAN, MAIL, NAME, f"req.{PAN}"):
        with logs.request_context(request_id):
            logger.log(level, "request")


def through_generated_code(level: str) -> None:
    for filename in (f"<{MAIL}>", f"/srv/{NAME}/{PAN}.py", f"/srv/{PAN}.py", MAIL):
        try:
            exec(compile(f"logger.info('generated')\nraise ValueError({PAN})", filename, "exec"), {"__name__": MAIL, "logger": logger})
        except ValueError:
            logger.opt(exception=True).log(level, "generated")


WAYS = (
    through_fields,
    through_sensitive_fields,
    through_names_of_fields,
    through_messages,
    through_exceptions,
    through_a_decorator,
    through_the_standard_library,
    through_warnings,
    through_hooks,
    through_request_ids,
    through_generated_code,
)


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_canary_is_written(configured, capfd, way, level, form) -> None:
    written = configured(form=form, sensitive_fields=["device"], plugin_fields=("note",))
    way(level)
    assert written.text, "nothing was logged at all"
    assert LINE_FAILED not in written.text
    outside = "".join(capfd.readouterr())
    for canary in CANARIES:
        assert canary not in written.text
        assert canary not in outside
    assert all(len(line) < 10_000 for line in written.text.splitlines())
