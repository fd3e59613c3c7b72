"""Redaction is enforced, not hoped for: the source is read, and whatever could carry a value past it is refused.

One logger, messages that are constants, values in `bind` under names on the allow-list. The rules themselves are tried on bad code below.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from paynow.http.routing import ROUTES, Route
from paynow.observability import shapes
from paynow.observability.redaction import ALLOWED, HASHED

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("paynow", "plugins") for path in (ROOT / folder).rglob("*.py"))

LEVELS = frozenset({"trace", "debug", "info", "success", "warning", "error", "critical", "exception", "log"})
CONFIGURES = frozenset({"add", "remove", "configure", "patch", "catch", "contextualize", "level", "enable", "disable", "reinstall"})
CHAINED = frozenset({"bind", "opt"})
OPTIONS = frozenset({"exception", "depth"})
LOGGERS = frozenset({"log", "logger", "_log", "_logger"})
LOGS_OTHERWISE = frozenset({"logging", "structlog", "syslog", "pprint"})
FIELDS = frozenset(ALLOWED) | frozenset(HASHED)


@dataclass(frozen=True, slots=True)
class Fault:
    line: int
    rule: str


def faults_of(source: str, path: str = "paynow/somewhere.py") -> list[Fault]:
    """All that one source file does against the rules; `path` is relative to the repository and says what is allowed there."""
    tree = ast.parse(source)
    loggers = _loggers_in(tree)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    configures = path.startswith("paynow/observability/")
    found: list[Fault] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += [Fault(node.lineno, rule) for rule in _import_faults(node, configures=configures)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            found.append(Fault(node.lineno, "print"))
        elif isinstance(node, ast.Attribute) and _is_stream(node) and not path.startswith(("paynow/cli/", "paynow/observability/")):
            found.append(Fault(node.lineno, "standard stream"))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "traceback" and _tells_text(node.attr):
            found.append(Fault(node.lineno, "exception's text"))
        elif isinstance(node, ast.Attribute) and _is_logger(node.value, loggers):
            if node.attr in LEVELS | CHAINED and id(node) not in called:
                found.append(Fault(node.lineno, "logger's method not called on the spot"))
            if node.attr in CONFIGURES and not configures:
                found.append(Fault(node.lineno, "logger configured outside observability"))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_logger(node.func.value, loggers):
            found += [Fault(node.lineno, rule) for rule in _call_faults(node, node.func.attr)]
    return found


def _loggers_in(tree: ast.AST) -> frozenset[str]:
    """The names under which the file knows a logger: the usual ones, and those that a logger is assigned to."""
    names = set(LOGGERS)
    for _ in range(3):  # an assignment may follow from another that stands below it
        for node in ast.walk(tree):
            value = getattr(node, "value", None) if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) else None
            if value is not None and _is_logger(value, frozenset(names)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
                names |= {target.attr for target in targets if isinstance(target, ast.Attribute)}
    return frozenset(names)


def _is_logger(node: ast.AST, loggers: frozenset[str]) -> bool:
    if isinstance(node, ast.Name):
        return node.id in loggers
    if isinstance(node, ast.Attribute):
        return node.attr in loggers
    if isinstance(node, ast.IfExp):
        return _is_logger(node.body, loggers) or _is_logger(node.orelse, loggers)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in CHAINED | {"patch", "plugin_logger"} and (node.func.attr == "plugin_logger" or _is_logger(node.func.value, loggers))
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "plugin_logger"


def _is_stream(node: ast.Attribute) -> bool:
    return node.attr.strip("_") in ("stdout", "stderr") and isinstance(node.value, ast.Name) and node.value.id == "sys"


def _tells_text(name: str) -> bool:
    """Whether a function of the module `traceback` gives the exception's text; those that only walk the stack do not."""
    return name.startswith(("print", "format", "TracebackException"))


def _import_faults(node: ast.Import | ast.ImportFrom, *, configures: bool) -> Iterator[str]:
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    for module in modules:
        top = module.partition(".")[0]
        if top in LOGS_OTHERWISE and not configures:
            yield "another way to log"
        if top == "loguru" and (
            isinstance(node, ast.Import) or any(alias.asname or alias.name not in ("logger", "Logger", "Message") for alias in node.names)
        ):
            yield "loguru under another name"
    if isinstance(node, ast.ImportFrom) and node.module == "traceback" and any(_tells_text(alias.name) for alias in node.names):
        yield "exception's text"
    if isinstance(node, ast.ImportFrom) and node.module == "sys" and any(alias.name in ("stdout", "stderr") for alias in node.names):
        yield "standard stream"


def _call_faults(call: ast.Call, method: str) -> Iterator[str]:
    if method == "bind":
        yield from _bind_faults(call)
    elif method == "opt" and (call.args or any(keyword.arg not in OPTIONS for keyword in call.keywords)):
        yield "option that opens a way for values"
    elif method in LEVELS:
        yield from _message_faults(call, position=1 if method == "log" else 0)


def _bind_faults(call: ast.Call) -> Iterator[str]:
    for keyword in call.keywords:
        if keyword.arg is None:
            yield "fields whose names cannot be read"
        elif keyword.arg not in FIELDS:
            yield "field that is not on the allow-list"
    if call.args:
        yield "fields whose names cannot be read"


def _message_faults(call: ast.Call, *, position: int) -> Iterator[str]:
    if len(call.args) != position + 1 or call.keywords:
        yield "arguments beside the message"
    message = call.args[position] if len(call.args) > position else None
    if not (isinstance(message, ast.Constant) and isinstance(message.value, str)):
        yield "message that is not a constant"
    elif set("{}%") & set(message.value):
        yield "message with a place for a value"


@pytest.mark.parametrize("path", [str(path.relative_to(ROOT)) for path in SOURCES])
def test_nothing_in_the_source_can_carry_a_value_past_the_redaction(path: str) -> None:
    faults = faults_of((ROOT / path).read_text(), path)
    assert not faults, "\n".join(f"{path}:{fault.line}: {fault.rule}" for fault in faults)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_one_that_lines_and_labels_may_hold(route: Route) -> None:
    assert shapes.route(route.path) == route.path
    assert shapes.method(route.method) == route.method


def test_the_source_is_found() -> None:
    assert {ROOT / "paynow" / "observability" / "logs.py", ROOT / "plugins" / "get_balance.py"} <= set(SOURCES)


GOOD = """
from loguru import logger
import math, inspect
logger.info("payment decided")
logger.bind(tool=name, attempt=2, customer_id=customer).warning("tool failed, trying again")
logger.bind(error=type(error).__name__).opt(exception=True).error("it failed")
logger.log("INFO", "constant " "in two parts")
context.log.bind(tool="t").info("asked")
bound = self.log.bind(plugin=plugin)
bound.opt(exception=error, depth=1).error("it failed")
math.log(amount); math.log(5, base)
traceback.extract_tb(error.__traceback__)
inspect.signature(call).bind(None, thing=1)
catalogue.info(f"not a {logger}")
"""


def test_what_is_right_is_not_refused() -> None:
    assert faults_of(GOOD) == []


BAD = {
    "import logging": "another way to log",
    "import logging.config as c": "another way to log",
    "from logging import getLogger": "another way to log",
    "import traceback\ntraceback.print_exc()": "exception's text",
    "import traceback\ntext = traceback.format_exception(error)": "exception's text",
    "from traceback import print_exc": "exception's text",
    "import loguru": "loguru under another name",
    "from loguru import logger as journal": "loguru under another name",
    "from loguru._logger import Core": "loguru under another name",
    "print(amount)": "print",
    "import sys\nsys.stdout.write(x)": "standard stream",
    "import sys\nsys.stderr.write(x)": "standard stream",
    "import sys\nsys.__stderr__.write(x)": "standard stream",
    "from sys import stderr": "standard stream",
    "logger.add(sink)": "logger configured outside observability",
    "logger.configure(extra={})": "logger configured outside observability",
    "logger.remove()": "logger configured outside observability",
    "logger.patch(change).info('x')": "logger configured outside observability",
    "@logger.catch\ndef f(): ...": "logger configured outside observability",
    "logger.contextualize(a=1)": "logger configured outside observability",
    "logger.info(f'paid {amount}')": "message that is not a constant",
    "logger.info(f'paid')": "message that is not a constant",
    "logger.info('paid ' + amount)": "message that is not a constant",
    "logger.info('paid %s' % amount)": "message that is not a constant",
    "logger.info('paid {}'.format(amount))": "message that is not a constant",
    "logger.info(message)": "message that is not a constant",
    "logger.info(b'paid')": "message that is not a constant",
    "logger.exception(error)": "message that is not a constant",
    "logger.log('INFO', message)": "message that is not a constant",
    "logger.info()": "arguments beside the message",
    "logger.info('paid', amount)": "arguments beside the message",
    "logger.info('paid', amount=amount)": "arguments beside the message",
    "logger.info('paid', **fields)": "arguments beside the message",
    "logger.info('paid', *values)": "arguments beside the message",
    "logger.log('INFO', 'paid', amount)": "arguments beside the message",
    "logger.info('paid {amount}')": "message with a place for a value",
    "logger.info('100 %')": "message with a place for a value",
    "logger.bind(amount=amount).info('paid')": "field that is not on the allow-list",
    "logger.bind(customer=customer).info('paid')": "field that is not on the allow-list",
    "logger.bind(**fields).info('paid')": "fields whose names cannot be read",
    "logger.bind(fields).info('paid')": "fields whose names cannot be read",
    "logger.opt(lazy=True).info('paid')": "option that opens a way for values",
    "logger.opt(colors=True).info('paid')": "option that opens a way for values",
    "logger.opt(True).info('paid')": "option that opens a way for values",
    "logger.opt(**options).info('paid')": "option that opens a way for values",
    "say = logger.info\nsay(f'paid {amount}')": "logger's method not called on the spot",
    "call_later(1, logger.warning, message)": "logger's method not called on the spot",
    "logger.bind(tool='t').info(f'paid {amount}')": "message that is not a constant",
    "self.log.info(message)": "message that is not a constant",
    "context.log.bind(amount=1)": "field that is not on the allow-list",
    "self._journal = logger.bind(tool='t')\nself._journal.info(message)": "message that is not a constant",
    "journal = logger.opt(depth=1)\nbook = journal\nbook.error(message)": "message that is not a constant",
    "book: Any = plugin_logger('p')\nbook.error(message)": "message that is not a constant",
    "if book := logger.bind(): book.error(message)": "message that is not a constant",
}


@pytest.mark.parametrize(("source", "rule"), BAD.items(), ids=BAD.keys())
def test_what_is_wrong_is_refused(source: str, rule: str) -> None:
    assert rule in {fault.rule for fault in faults_of(source)}


@pytest.mark.parametrize("source", ["import logging", "logger.add(sink)", "import sys\nsys.stderr.write(x)"])
def test_observability_may_configure(source: str) -> None:
    assert faults_of(source, "paynow/observability/logs.py") == []


def test_commands_may_write_to_the_terminal_but_not_print() -> None:
    assert faults_of("import sys\nsys.stdout.write(x)", "paynow/cli/keys.py") == []
    assert faults_of("print(x)", "paynow/cli/keys.py") != []


def test_observability_is_held_to_the_rules_of_messages_as_well() -> None:
    assert faults_of("logger.info(message)", "paynow/observability/logs.py") != []
