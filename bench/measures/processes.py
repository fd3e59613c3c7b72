"""Processor time and memory of a process and its descendants, from /proc. Children that ended count too: their parent keeps their time."""

from __future__ import annotations

import os
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """Seconds of processor time, user and system, of the process and its descendants, those that ended and were waited for included."""
    return sum(sum(_times(fields)) for fields in _family(pid)) / TICKS_PER_S


def rss_bytes(pid: int) -> int:
    """Resident memory of the process and its descendants; pages that they share count once each."""
    total = 0
    for member in members(pid):
        try:
            total += int(Path(f"/proc/{member}/statm").read_text().split()[1]) * PAGE_BYTES
        except (OSError, IndexError):
            continue  # it ended meanwhile
    return total


def members(pid: int) -> list[int]:
    """The process and its living descendants."""
    return [int(fields[0]) for fields in _family(pid)]


def parse_stat(text: str) -> list[str]:
    """The fields of a /proc/PID/stat, numbered as in proc(5) from 0; a program's name may hold blanks and brackets."""
    head, _, rest = text.rpartition(")")
    pid, _, name = head.partition(" (")
    return [pid, name, *rest.split()]


def _times(fields: list[str]) -> tuple[int, int, int, int]:
    """Own user and system time, and that of children that were waited for, in ticks."""
    return int(fields[13]), int(fields[14]), int(fields[15]), int(fields[16])


def _family(pid: int) -> list[list[str]]:
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                found[int(path.name)] = parse_stat((path / "stat").read_text())
            except OSError:
                continue  # it ended meanwhile
    family = {pid} if pid in found else set()
    while more := {child for child, fields in found.items() if int(fields[3]) in family} - family:
        family |= more
    return [found[member] for member in sorted(family)]
