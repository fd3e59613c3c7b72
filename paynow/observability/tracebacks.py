"""Exceptions as they may be logged: classes and places in code. Never the text, never the values of variables."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import TracebackType

FRAMES_MAX = 20
"""Of a deeper stack the innermost frames are kept: they are where it happened."""

DEPTH_MAX = 3
MEMBERS_MAX = 4

_TYPE = re.compile(r"(?!.*[0-9]{7})[A-Za-z_][A-Za-z0-9_.]{0,80}")
_PATH = re.compile(r"(?!.*[0-9]{7})[A-Za-z0-9_./+-]{1,160}\.py")
_HOME = str(Path(__file__).parents[2])


def describe(error: BaseException, trace: TracebackType | None = None, *, depth: int = DEPTH_MAX) -> dict[str, object]:
    """`{type, frames, cause, members}`: the class, the frames from the outermost in, what it was raised from, and the members of a group.

    Causes and members are followed three exceptions deep.
    """
    described: dict[str, object] = {"type": type_name(type(error)), "frames": list(_frames(trace or error.__traceback__))}
    if depth <= 1:
        return described
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        described["cause"] = describe(cause, depth=depth - 1)
    if isinstance(error, BaseExceptionGroup):
        described["members"] = [describe(member, depth=depth - 1) for member in error.exceptions[:MEMBERS_MAX]]
    return described


def type_name(kind: type) -> str:
    """`module.Class` (built-in ones without the module), or `unnamed` if that is not how a class is named in code."""
    module, name = kind.__module__, kind.__name__
    full = name if module == "builtins" else f"{module}.{name}"
    return full if _TYPE.fullmatch(full) else "unnamed"


def short_path(filename: str) -> str:
    """A source file's path from the folder that it is imported from: `paynow/store/pool.py`. Folders above that are nobody's business."""
    return _short_path(filename, tuple(sys.path))


@lru_cache(maxsize=1024)
def _short_path(filename: str, import_roots: tuple[str, ...]) -> str:
    roots = sorted({_HOME, *filter(None, import_roots)}, key=len, reverse=True)
    inside = next((root for root in roots if filename.startswith(root.rstrip("/") + "/")), None)
    short = filename[len(inside.rstrip("/")) + 1 :] if inside else "/".join(Path(filename).parts[-2:])
    return short if _PATH.fullmatch(short) else "<generated>"


def _frames(trace: TracebackType | None) -> Iterator[str]:
    kept: deque[TracebackType] = deque(maxlen=FRAMES_MAX)
    while trace is not None:
        kept.append(trace)
        trace = trace.tb_next
    for one in kept:
        code = one.tb_frame.f_code
        yield f"{short_path(code.co_filename)}:{one.tb_lineno} {code.co_name}"
