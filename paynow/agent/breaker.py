"""A circuit breaker: stops calling what keeps failing, and lets one call through now and then to see whether it is well again.

It knows nothing of tools or time limits: it is told how calls ended. All of it runs on the event loop's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from paynow.settings import AgentSettings

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"

_SLICES = 10


class Breaker:
    """Opens when, of at least `breaker_calls_min` calls in the last `breaker_window_s`, a share of `breaker_failures_share` failed.

    After `breaker_open_s` it is half open: a single probe may pass; its success closes the breaker, its failure opens it again.
    The window is kept in ten slices, so its memory does not depend on the load and its length is exact to a tenth.
    """

    def __init__(self, settings: AgentSettings, monotonic: Callable[[], float], changed: Callable[[str], None]) -> None:
        self.state = CLOSED
        self._settings = settings
        self._slice_s = settings.breaker_window_s / _SLICES
        self._monotonic = monotonic
        self._changed = changed
        self._window: deque[list[int]] = deque(maxlen=_SLICES)
        self._open_until = 0.0
        self._probing = False
        self._era = 0

    def admit(self) -> int | None:
        """A pass for one call, to be handed back to `record` or `forget`; None: do not call."""
        if self.state == CLOSED:
            return self._era
        if self.state == OPEN and self._monotonic() >= self._open_until:
            self._become(HALF_OPEN)
        if self.state == OPEN or self._probing:
            return None
        self._probing = True
        return self._era

    def record(self, era: int, *, ok: bool) -> None:
        """How a call ended. Calls admitted before the last change of state say nothing about the present one."""
        if era != self._era:
            return
        if self.state == HALF_OPEN:
            self._become(CLOSED if ok else OPEN)
            return
        self._count(ok)
        if not ok and self._too_many_failures():
            self._become(OPEN)

    def forget(self, era: int) -> None:
        """A call ended in a way that says nothing about the tool, such as a cancelled request: another probe may pass."""
        if era == self._era:
            self._probing = False

    def trip(self) -> None:
        """Opens at once, whatever the window says."""
        self._become(OPEN)

    def _become(self, state: str) -> None:
        changes = state != self.state
        self.state = state
        self._era += 1
        self._probing = False
        self._window.clear()
        if state == OPEN:
            self._open_until = self._monotonic() + self._settings.breaker_open_s
        if changes:
            self._changed(state)

    def _count(self, ok: bool) -> None:
        index = int(self._monotonic() / self._slice_s)
        if not self._window or self._window[-1][0] != index:
            self._window.append([index, 0, 0])
        self._window[-1][1] += 1
        self._window[-1][2] += not ok

    def _too_many_failures(self) -> bool:
        oldest = self._window[-1][0] - _SLICES + 1
        living = [counts for counts in self._window if counts[0] >= oldest]
        calls = sum(counts[1] for counts in living)
        failures = sum(counts[2] for counts in living)
        return calls >= self._settings.breaker_calls_min and failures >= calls * self._settings.breaker_failures_share
