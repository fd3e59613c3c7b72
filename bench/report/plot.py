"""The plot: throughput as bars, PayNow's times at fixed rates as points. Plain SVG, for light pages and dark ones."""

from __future__ import annotations

import math
from xml.sax.saxutils import escape

from bench.report.aims import Document, found, number

WIDTH = 860
LABEL_WIDTH = 360
BAR_HEIGHT, BAR_GAP = 22, 10
OURS, THEIRS = "#2563eb", "#94a3b8"
PERCENTILES = (("p50_ms", "p50", "#93c5fd"), ("p95_ms", "p95", "#3b82f6"), ("p99_ms", "p99", "#1d4ed8"), ("p999_ms", "p99.9", "#1e3a8a"))
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#334155}.head{font-weight:600;font-size:14px}.small{font-size:11px;fill:#64748b}"
    ".grid{stroke:#cbd5e1;stroke-width:1}"
)


def draw(document: Document) -> str:
    """The plot of a document that holds a comparison."""
    compared = found(document, "comparison")
    bars, height = _bars(compared["rivals"], 20)
    points, height = _points(compared.get("open_loop", []), height + 20)
    frame = f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#f8fafc"/>'
    body = "\n".join([frame, *bars, *points])
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<style>{STYLE}</style>\n{body}\n</svg>\n'


def _bars(rivals: dict[str, dict[str, object]], top: int) -> tuple[list[str], int]:
    """A bar a rival, from nought, the fastest as wide as there is room."""
    rates = {name: float(rival["median"]["decisions_per_s"]) for name, rival in rivals.items()}  # type: ignore[index]
    scale = (WIDTH - LABEL_WIDTH - 90) / max([*rates.values(), 1.0])
    lines = [_text(20, top + 6, "Answers a second (64 connections, closed loop; pgbench: 32 clients)", "head")]
    top += 22
    for name, rate in rates.items():
        width = max(1.0, rate * scale)
        colour = OURS if name.startswith("paynow") else THEIRS
        lines.append(_text(LABEL_WIDTH - 8, top + 16, str(rivals[name]["title"]), anchor="end"))
        lines.append(f'<rect x="{LABEL_WIDTH}" y="{top}" width="{width:.1f}" height="{BAR_HEIGHT}" rx="3" fill="{colour}"/>')
        lines.append(_text(LABEL_WIDTH + width + 6, top + 16, number(rate)))
        top += BAR_HEIGHT + BAR_GAP
    return lines, top


def _points(open_loop: list[dict[str, float]], top: int) -> tuple[list[str], int]:
    """A line of points a rate, on a logarithmic scale of milliseconds."""
    if not open_loop:
        return [], top
    values = [one[key] for one in open_loop for key, _, _ in PERCENTILES]
    low = math.floor(math.log10(max(0.1, min(values))))
    high = max(low + 1, math.ceil(math.log10(max(values))))
    room = WIDTH - LABEL_WIDTH - 60

    def x(milliseconds: float) -> float:
        return LABEL_WIDTH + (math.log10(max(10.0**low, milliseconds)) - low) / (high - low) * room

    lines = [_text(20, top + 6, "PayNow's times at fixed rates, ms (open loop, from the moment a request was due)", "head")]
    for place, (_, title, colour) in enumerate(PERCENTILES):
        left = LABEL_WIDTH + place * 75
        lines += [f'<circle cx="{left}" cy="{top + 24}" r="5" fill="{colour}"/>', _text(left + 10, top + 28, title, "small")]
    top += 44
    bottom = top + len(open_loop) * (BAR_HEIGHT + BAR_GAP)
    for power in range(low, high + 1):
        at = x(10.0**power)
        lines += [
            f'<line x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{bottom}" class="grid"/>',
            _text(at, bottom + 14, f"{10.0**power:g}", "small", "middle"),
        ]
    for one in open_loop:
        lines.append(_text(LABEL_WIDTH - 8, top + 16, f"{one['share']:.0%} of the maximum: {number(one['rate'])} a second", anchor="end"))
        lines += [f'<circle cx="{x(one[key]):.1f}" cy="{top + 11}" r="6" fill="{colour}"/>' for key, _, colour in PERCENTILES]
        top += BAR_HEIGHT + BAR_GAP
    return lines, bottom + 26


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    shape = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{shape}>{escape(text)}</text>'
