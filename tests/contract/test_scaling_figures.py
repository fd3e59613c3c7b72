"""No figure of docs/scaling.md's arithmetic that was not measured: each is the one that stands in bench/results, and the sums are right."""

from __future__ import annotations

import json
import re
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+?) \| ([\d.,]+)[^|]* \| `([\d-]+)` `([\w.]+)` \| ([\d.,]+) ?(\S+) \| ([\d.,]+) ?(\S+) \|$", PAGE, re.MULTILINE)
IN_A_UNIT = {"cores": 1e-3, "/s": 1, "MB/s": 1e-6, "TB/day": 86_400 * 1e-12}
"""What a figure is divided by to come to the unit of its sum: processor time is in milliseconds."""


def number(text: str) -> float:
    return float(text.replace(",", ""))


def measured(day: str, path: str) -> float:
    part, *keys = path.split(".")
    document = json.loads((ROOT / "bench" / "results" / f"{day}.json").read_text(encoding="utf-8"))
    return reduce(lambda found, key: found[key], keys, document["machine"] if part == "machine" else document[part]["found"])


def rounded_like(value: float, text: str) -> float:
    return round(value, len(text.partition(".")[2]))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_figure_is_the_measured_one_and_its_sums_are_right(row: tuple[str, ...]) -> None:
    _, figure, day, path, *sums = row
    assert number(figure) == rounded_like(measured(day, path), figure)
    for rate, told, unit in ((10_000, *sums[:2]), (100_000, *sums[2:])):
        assert number(told) == rounded_like(number(figure) * rate * IN_A_UNIT[unit], told)


def test_every_figure_in_the_text_that_names_its_source_stands_there() -> None:
    named = re.findall(r"([\d.,]+) (?:ms|MB)[^|`\n]*\(`([\d-]+)` `([\w.]+)`\)", PAGE)
    assert len(named) >= 4
    for figure, day, path in named:
        assert number(figure) == rounded_like(measured(day, path), figure)
    assert len(ROWS) >= 10
