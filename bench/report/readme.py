"""The README's part about speed, between two marks, made of the newest results."""

from __future__ import annotations

from bench.report import tables
from bench.report.aims import Document, verdicts
from bench.report.page import machine_line

BEGIN = "<!-- bench: begin; `make bench` writes what stands here -->"
END = "<!-- bench: end -->"
RESULTS = "bench/results"


def section(document: Document, day: str) -> str:
    """What stands between the marks."""
    parts = [
        f"![Throughput of PayNow and its rivals, and PayNow's times at fixed rates]({RESULTS}/{day}.svg)\n",
        tables.comparison(document),
        tables.aims(verdicts(document)),
        machine_line(document),
        f"CPU is seconds of processor time for 1,000 decisions. All of it, and what bounds the aims that were missed: [{day}]({RESULTS}/{day}.md).\n",
    ]
    return "\n".join(parts)


def replaced(text: str, inner: str) -> str:
    """The README with that between its marks. Raises `ValueError` if they are not there, each once and in order."""
    head, begun, rest = text.partition(BEGIN)
    _, ended, tail = rest.partition(END)
    if not begun or not ended or BEGIN in tail or END in tail:
        raise ValueError("the README has lost its marks for the bench")
    return f"{head}{BEGIN}\n{inner}{END}{tail}"
