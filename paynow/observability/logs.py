"""The one place that configures logging: one sink, one line per event, redacted by default.

Everywhere else: `logger.bind(field=…).info("constant message")`. The fields that exist stand in `redaction.py` and docs/observability.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, TextIO

from loguru import logger

from paynow.errors import ConfigurationFault, ConfigurationRefused
from paynow.observability.console import console_form
from paynow.observability.correlation import current_request_id, request_context
from paynow.observability.intake import loop_exception_handler, take_over
from paynow.observability.lines import LineWriter, json_form
from paynow.observability.redaction import RESERVED, Redactor
from paynow.settings.model import LoggingSettings

if TYPE_CHECKING:
    from loguru import Logger

__all__ = ["configure", "current_request_id", "loop_exception_handler", "plugin_logger", "request_context"]


def configure(
    settings: LoggingSettings, *, hash_key: bytes, sensitive_fields: Collection[str] = (), stream: TextIO | None = None, worker: int | None = None
) -> None:
    """Makes every line of this process, of libraries and plugins too, pass through the redaction to `stream` (standard error by default).

    `hash_key` is the key of the hashes under which customers and payees appear; `worker` is told in every line.
    Calling it again replaces what was configured before.
    Raises `ConfigurationRefused` if `logging.plugin_fields` names a field that the line itself uses; `ValueError` for an empty key.
    """
    if taken := sorted(RESERVED.intersection(settings.plugin_fields)):
        fault = ConfigurationFault("settings", "logging.plugin_fields", f"every line has {', '.join(taken)} already; choose another name")
        raise ConfigurationRefused([fault])
    redactor = Redactor(hash_key, sensitive_fields=sensitive_fields, plugin_fields=settings.plugin_fields)
    target = sys.stderr if stream is None else stream
    form = json_form if settings.format == "json" else console_form(colour=target.isatty() and not os.environ.get("NO_COLOR"))
    writer = LineWriter(redactor, form, target)
    logger.remove()
    logger.configure(extra={} if worker is None else {"worker": worker})
    level = settings.level.upper()
    # loguru's own traceback would print the exception's text and, with `diagnose`, every variable: `render` takes it out before that
    logger.add(writer, level=level, filter=writer.render, format="{message}", catch=True, diagnose=False, backtrace=False)
    take_over(level)


def plugin_logger(plugin: str) -> Logger:
    """The logger that a plugin is handed: its lines carry the plugin's name."""
    return logger.bind(plugin=plugin)
