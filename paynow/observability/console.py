"""A log line for people: the same fields as the JSON form, on one line, coloured where a terminal shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_COLOURS = {"TRACE": "2", "DEBUG": "2", "INFO": "32", "SUCCESS": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}
_FRAMES_SHOWN = 3


def console_form(*, colour: bool) -> Callable[[Mapping[str, Any]], str]:
    """`10:00:00.000 INFO     payment decided  decision=allow …  (paynow.payments.decide:decide:80)`."""

    def paint(text: str, codes: str) -> str:
        return f"\x1b[{codes}m{text}\x1b[0m" if colour else text

    def form(line: Mapping[str, Any]) -> str:
        rest = dict(line)
        level, time = rest.pop("level"), rest.pop("time")[11:23]
        parts = [paint(time, "2"), paint(f"{level:<8}", _COLOURS.get(level, "0")), paint(rest.pop("event"), "1")]
        where = rest.pop("where", None)
        raised = rest.pop("exception", None)
        parts += [f"{paint(name + '=', '36')}{_shown(value)}" for name, value in rest.items()]
        if raised:
            parts.append(paint(_exception(raised), "31"))
        if where:
            parts.append(paint(f"({where})", "2"))
        return " ".join(parts)

    return form


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _exception(raised: Mapping[str, Any]) -> str:
    """The class, its innermost frames from the place of the fault outwards, and the same of its cause."""
    places = " < ".join(reversed(raised["frames"][-_FRAMES_SHOWN:]))
    text = f"{raised['type']} [{places}]" if places else raised["type"]
    if members := raised.get("members"):
        text += f" of {{{'; '.join(map(_exception, members))}}}"
    return f"{text} from {_exception(raised['cause'])}" if "cause" in raised else text
