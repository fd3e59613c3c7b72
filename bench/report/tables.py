"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.report.aims import Document, Verdict, found, number

Row = Sequence[str]

COLUMNS: tuple[tuple[str, str], ...] = (
    ("decisions_per_s", "decisions/s"),
    ("p50_ms", "p50 ms"),
    ("p95_ms", "p95 ms"),
    ("p99_ms", "p99 ms"),
    ("cpu_python", "CPU Python"),
    ("cpu_postgres", "CPU PostgreSQL"),
    ("cpu_load", "CPU load"),
)
COSTS: tuple[tuple[str, str], ...] = (
    ("batch_claim", "payments in a claim"),
    ("batch_settle", "payments in a settle"),
    ("statements", "statements"),
    ("transactions", "transactions"),
    ("fsyncs", "fsyncs"),
    ("wal_bytes", "WAL bytes"),
)


def table(head: Row, rows: Sequence[Row]) -> str:
    """The first column to the left, figures to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def cell(value: Any) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else number(float(value))


def comparison(document: Document) -> str:
    """Throughput, times and processor time of every rival."""
    return _rivals(document, COLUMNS)


def costs(document: Document) -> str:
    """What a decision costs in counts."""
    return _rivals(document, COSTS)


def spread(document: Document) -> str:
    """How far the rounds lie apart."""
    rivals = found(document, "comparison")["rivals"].values()
    rows = []
    for rival in rivals:
        rates = [one["decisions_per_s"] for one in rival["rounds"]]
        rows.append([rival["title"], number(min(rates)), number(rival["median"]["decisions_per_s"]), number(max(rates))])
    return table(["decisions/s", "slowest round", "median", "fastest round"], rows)


def open_loop(document: Document) -> str:
    """Times at fixed rates, and how late the generator itself was."""
    keys = ("p50_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms", "late_p99_ms")
    rows = [
        [f"{one['share']:.0%} of the maximum", number(one["rate"]), *(cell(one[key]) for key in keys)]
        for one in found(document, "comparison").get("open_loop", [])
    ]
    return table(["open loop", "requests/s", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "max ms", "generator late, p99 ms"], rows)


def aims(verdicts: Sequence[Verdict]) -> str:
    """What was asked and what came."""
    rows = [[one.aim.sentence, one.aim.limit_text(), f"{number(one.value)}{one.aim.unit}", "yes" if one.met else "**no**"] for one in verdicts]
    return table(["aim", "limit", "measured", "met"], rows)


def missed(verdicts: Sequence[Verdict]) -> str:
    """For each aim that was missed, what bounds it."""
    return "".join(f"- **{one.aim.sentence}** ({number(one.value)}{one.aim.unit}): {one.bound}\n" for one in verdicts if not one.met)


def facts(found_part: dict[str, Any]) -> str:
    """Everything in a part that is one figure or word, a line each."""
    rows = [[key.replace("_", " "), cell(value) if isinstance(value, (int, float)) else str(value)] for key, value in found_part.items()]
    return table(["", ""], [row for row, value in zip(rows, found_part.values(), strict=True) if not isinstance(value, (dict, list))])


def _rivals(document: Document, columns: Sequence[tuple[str, str]]) -> str:
    rivals = found(document, "comparison")["rivals"].values()
    rows = [[rival["title"], *(cell(rival["median"].get(key)) for key, _ in columns)] for rival in rivals]
    return table(["", *(title for _, title in columns)], [row for row in rows if any(one != "–" for one in row[1:])])
