"""What a run says meanwhile: lines on standard output, and a bar below them where that is a terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Voice:
    """Call it with a line; `begin` a part of so many steps, and say with `done` that one is over."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=self.console, disable=not self.console.is_terminal, transient=True)
        self._task = self._progress.add_task("", visible=False)

    def __enter__(self) -> Voice:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def __call__(self, line: str) -> None:
        """A line that stays."""
        self.console.print(line, markup=False, soft_wrap=True)

    def begin(self, part: str, steps: float) -> None:
        """A part of the run: the bar begins anew."""
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(part, total=steps)

    def done(self, line: str | None = None, steps: float = 1) -> None:
        """So many steps are over, and perhaps a line about them."""
        self._progress.advance(self._task, steps)
        if line:
            self(line)

    def less(self, steps: float) -> None:
        """So many steps fall away."""
        self._progress.update(self._task, total=(self._progress.tasks[-1].total or 0) - steps)
