"""What is demanded of the things that plugins register, as sentences about what is wrong. Knows nothing of where plugins come from."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping

from paynow.plugin_api import Effect, Field, RateLimiterMaker, Tool

TOOL_NAME = re.compile(r"[a-z][A-Za-z0-9]{0,63}")
FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
BACKEND_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")

FIELD_NAMES_TAKEN = frozenset({"false", "in", "null", "true"})
TOOL_NAMES_TAKEN = FIELD_NAMES_TAKEN | {
    *("payment", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package", "namespace"),
    *("return", "var", "void", "while"),
}
"""Names that a rule cannot use for a tool: the payment's own, and the reserved identifiers of the Common Expression Language (its spec's
section Syntax)."""


def faults_of_tool(tool: object) -> Iterator[str]:
    """What is wrong with a tool."""
    if not isinstance(tool, Tool):
        yield f"registers {type(tool).__name__} where a Tool is expected"
        return
    if not _named(TOOL_NAME, tool.name) or tool.name in TOOL_NAMES_TAKEN:
        yield f"tool {tool.name!r}: a tool's name is a small letter and then at most 63 letters and digits, and no word that rules use themselves"
        return
    if not isinstance(tool.effect, Effect):
        yield f"tool `{tool.name}`: the effect must be Effect.READ or Effect.WRITE"
    elif tool.outside and tool.effect is Effect.READ:
        yield f"tool `{tool.name}`: outside=True is for WRITE tools"
    yield from _faults_of_call(tool)
    if not isinstance(tool.output, Mapping):
        yield f"tool `{tool.name}`: the output must be a dict of names to fields"
        return
    for name, field in tool.output.items():
        yield from (f"tool `{tool.name}`: output {name!r}: {fault}" for fault in _faults_of_field(name, field))


def faults_of_sink(sink: object) -> Iterator[str]:
    """What is wrong with an event sink."""
    if not _named(BACKEND_NAME, getattr(sink, "name", None)):
        yield f"registers {type(sink).__name__} as an event sink, but its `name` is no word of small letters, digits and _"
        return
    for method in ("deliver", "close"):
        if not is_async(getattr(sink, method, None)):
            yield f"event sink `{sink.name}`: `{method}` must be an async function"


def faults_of_limiter(maker: object) -> Iterator[str]:
    """What is wrong with a rate limiter's maker."""
    if not isinstance(maker, RateLimiterMaker):
        yield f"registers {type(maker).__name__} where a RateLimiterMaker is expected"
    elif not _named(BACKEND_NAME, maker.name):
        yield f"rate limiter {maker.name!r}: the name must be a word of small letters, digits and _"
    elif not callable(maker.make) or not isinstance(maker.shared, bool):
        yield f"rate limiter `{maker.name}`: `make` must be a function and `shared` True or False"


def faults_of_sensitive_field(name: object) -> Iterator[str]:
    """What is wrong with the name of a log field."""
    if not _named(FIELD_NAME, name):
        yield f"sensitive field {name!r}: a log field's name is a word of small letters, digits and _"


def is_async(call: object) -> bool:
    """Whether calling it gives something to await, as far as its definition tells."""
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004 - its definition is asked for


def _faults_of_call(tool: Tool) -> Iterator[str]:
    if not callable(tool.call):
        yield f"tool `{tool.name}`: `call` must be a function"
        return
    if not _takes_one(tool.call):
        yield f"tool `{tool.name}`: `call` must take the context and nothing else"
    if tool.blocking and is_async(tool.call):
        yield f"tool `{tool.name}`: a blocking tool runs on a thread, so `call` must be a plain function, not an async one"
    if not tool.blocking and not is_async(tool.call):
        yield f"tool `{tool.name}`: `call` must be an async function; a plain one needs blocking=True, which runs it on a thread"


def _takes_one(call: Callable[..., object]) -> bool:
    try:
        inspect.signature(call).bind(None)
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature to look at
        return True
    return True


def _faults_of_field(name: object, field: object) -> Iterator[str]:
    if not _named(FIELD_NAME, name) or name in FIELD_NAMES_TAKEN:
        yield "a field's name is a small letter and then at most 63 small letters, digits and _, and no word that rules use themselves"
    if not isinstance(field, Field):
        yield "must be described by whole(), real(), flag(), choice() or text()"
        return
    if field.kind not in (int, float, bool, str):
        yield "the kind must be int, float, bool or str"
    if field.minimum is not None and field.maximum is not None and field.minimum > field.maximum:
        yield "the minimum is above the maximum"
    if not all(isinstance(word, str) for word in field.choices) or len(set(field.choices)) < len(field.choices):
        yield "the choices must be texts, each once"


def _named(pattern: re.Pattern[str], name: object) -> bool:
    return isinstance(name, str) and pattern.fullmatch(name) is not None
