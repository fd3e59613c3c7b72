"""Reading a CSV file line by line, however long it is, with every fault named by its line. Knows nothing of what the lines mean."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from paynow.store.imports import FAULTS_KEPT_MAX, ImportRefused

PROGRESS_EVERY_LINES = 1_000

Line = TypeVar("Line")


def read_csv(
    file: Path,
    columns: Sequence[str],
    read_line: Callable[[int, list[str]], Line | str],
    *,
    progress: Callable[[int], None] = lambda read_bytes: None,
) -> Iterator[Line]:
    """What `read_line` makes of each line after the header; a text that it gives is the line's fault. `progress` is told the bytes
    read, now and then.

    Raises `ImportRefused` at its end with every line that is wrong, and `OSError`.
    """
    faults: list[tuple[int, str]] = []
    faults_in_all = 0
    # What is no UTF-8 becomes a character that no field may have, so that the fault has its line.
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        for number, (line, row) in enumerate(_rows(csv.reader(stream), columns)):
            read = read_line(line, row) if isinstance(row, list) else row
            if not isinstance(read, str):
                yield read
            else:
                faults_in_all += 1
                if len(faults) < FAULTS_KEPT_MAX:
                    faults.append((line, read))
            if number % PROGRESS_EVERY_LINES == 0:
                progress(stream.buffer.tell())
        progress(stream.buffer.tell())
    if faults:
        raise ImportRefused("the file has faults", faults, faults_in_all)


def _rows(reader: Iterator[list[str]], columns: Sequence[str]) -> Iterator[tuple[int, list[str] | str]]:
    """Each row with the line that it begins on, after the header; a message instead of the row where it is none, or where reading cannot go on."""
    line = 1
    try:
        if next(reader, None) != list(columns):
            yield line, f"expected the first line to be {','.join(columns)}"
            return
        line = 2
        for row in reader:
            if row:
                yield line, row if len(row) == len(columns) else f"has {len(row)} fields, expected {len(columns)}: {','.join(columns)}"
            line = reader.line_num + 1  # type: ignore[attr-defined]
    except csv.Error as error:
        yield line, f"is not CSV: {error}"
