"""What several workers of one service count together: values in files of a private folder that each of them reads (Prometheus' multiprocess mode).

A file belongs to a worker's number, not to its process: whoever takes a dead worker's place counts on where that one ended, so totals never fall
and files do not become more. Knows no metric.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import Metric, ProcessCollector, multiprocess, values
from prometheus_client.samples import Sample

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client reads the folder's name here whenever a series is made."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A worker's place among the others: its number, from 1, and the private folder of all of them. Numbers of living processes differ."""

    folder: Path
    worker: int

    def enter(self) -> None:
        """Before the first metric is made, once in a process: from here on its values are kept in the folder."""
        os.environ[VARIABLE] = str(self.folder)
        values.ValueClass = values.MultiProcessValue(lambda: self.worker)
        self.file("worker", "pid").write_text(str(os.getpid()))

    def families(self) -> list[Metric]:
        """Every metric, over all workers; then what the system tells of each worker's process, labelled with its number."""
        summed = list(multiprocess.MultiProcessCollector(None, str(self.folder)).collect())
        return [*sorted(summed, key=lambda family: family.name), *self._processes()]

    def _processes(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for file in sorted(self.folder.glob("worker_*.pid"), key=_number):
            for family in _process(file):
                known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                known.samples += [Sample(sample.name, {"worker": str(_number(file))}, sample.value) for sample in family.samples]
        return families.values()

    def file(self, name: str, kind: str) -> Path:
        """Where this worker keeps what the others may find under that name."""
        return self.folder / f"{name}_{self.worker}.{kind}"

    def files_of_others(self, name: str, kind: str) -> list[Path]:
        """Where the others keep theirs; some may be of dead ones."""
        return [path for path in self.folder.glob(f"{name}_*.{kind}") if path != self.file(name, kind)]

    def leave(self) -> None:
        """Takes this worker's files along, and with the last of all files the folder: for when the parent cannot do it."""
        for path in self.folder.glob(f"*_{self.worker}.*"):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    @staticmethod
    def forget(folder: Path, worker: int) -> None:
        """A worker has ended: what it had open and in use is no more. What it counted stays."""
        multiprocess.mark_process_dead(worker, str(folder))
        (folder / f"worker_{worker}.pid").unlink(missing_ok=True)


def keep_in_memory() -> None:
    """The values of this process are its own and in memory, whatever the environment says: prometheus_client asks it when it is imported."""
    values.ValueClass = _InMemory


class _InMemory(values.MutexValue):
    """Counted on one event loop and nowhere else, so that no increment need take a lock."""

    def inc(self, amount: float) -> None:
        self._value += amount


def _number(file: Path) -> int:
    return int(file.stem.partition("_")[2])


def _process(file: Path) -> Iterator[Any]:
    with suppress(OSError, ValueError):
        pid = int(file.read_text())
        yield from ProcessCollector(pid=lambda: pid, registry=None).collect()
