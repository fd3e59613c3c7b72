"""How one attempt of a tool ended, and what may be said of an exception: a code, never its text, for a text may hold anything."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from paynow.plugin_api import ToolError

OK, ERROR, TIMEOUT, INVALID, SKIPPED = "ok", "error", "timeout", "invalid", "skipped"

_CODE = re.compile(r"[A-Za-z0-9_]{1,64}")


class Outcome(NamedTuple):
    """One attempt: `ok` with its checked output, or another status with an error code.

    `again` says whether another attempt may help; `raised` is what a plugin's author will want to see the place of in the log.
    """

    status: str
    seconds: float
    output: dict[str, Any] | None = None
    error: str | None = None
    again: bool = False
    raised: BaseException | None = None


class InvalidOutput(Exception):
    """What a tool returned is not what it declared. `code` names the fault, and the declared field if it is one field's."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code if _CODE.fullmatch(code) else "invalid_output"


def skipped(reason: str) -> Outcome:
    """The tool was not called."""
    return Outcome(SKIPPED, 0.0, error=reason)


def failed(error: BaseException, seconds: float) -> Outcome:
    """The tool raised, or returned what it had not declared."""
    if isinstance(error, InvalidOutput):
        return Outcome(INVALID, seconds, error=error.code, again=True)
    if isinstance(error, ToolError):
        # A subclass may have forgotten to call our constructor.
        code, again = getattr(error, "code", None), bool(getattr(error, "retry", True))
        return Outcome(ERROR, seconds, error=_first_code(code, type(error).__name__), again=again)
    return Outcome(ERROR, seconds, error=_first_code(type(error).__name__), again=True, raised=error)


def _first_code(*candidates: object) -> str:
    return next((code for code in candidates if isinstance(code, str) and _CODE.fullmatch(code)), "error")
