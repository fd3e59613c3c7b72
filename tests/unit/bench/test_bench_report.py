"""Tables, verdicts, plot and the README's part are made of the results and of nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.comparison import check_unbatched
from bench.report import page, plot, readme, results, tables
from bench.report.aims import AIMS, BOUNDS, number, ratio, verdicts
from bench.turns import Broken, Figures

ROOT = Path(__file__).parents[3]
MACHINE = {
    "cores": 2,
    "cpu": "A <Processor> & more",
    "memory_gb": 8.0,
    "system": "Linux 6",
    "python": "3.11",
    "postgresql": "18",
    "postgresql_settings": {"fsync": "on"},
    "fsync_ms": 1.5,
}


def rival(title: str, rate: float) -> dict[str, Any]:
    figures = Figures(rate, 10.0, 20.0, 30.0, 0.2, None, 0.01).document()
    return {"title": title, "median": figures, "rounds": [{**figures, "decisions_per_s": rate * factor} for factor in (0.9, 1, 1.1)]}


def document() -> dict[str, Any]:
    rivals = {"paynow": rival("PayNow", 3000), "floor": rival("Floor", 5000), "pgbench": rival("pgbench", 4000), "usual": rival("FastAPI", 500)}
    at_half = {"share": 0.5, "rate": 1500, "p50_ms": 2.0, "p95_ms": 5.0, "p99_ms": 9.0, "p999_ms": 80.0, "max_ms": 90.0, "late_p99_ms": 1.0}
    compared = {"rounds": 3, "seconds": 10, "skipped": {"paynow_2": "why\nno workers"}, "rivals": rivals, "open_loop": [at_half]}
    return {
        "version": 1,
        "machine": MACHINE,
        "comparison": {"found": compared},
        "soak": {"found": {"minutes": 10, "memory_away_percent": 2.5, "memory_mb": [1, 2]}},
    }


@pytest.mark.parametrize(("value", "text"), [(12345.6, "12,346"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.0, "0.00")])
def test_a_figure_has_the_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_the_table_has_a_row_for_each_rival_and_a_dash_for_what_it_has_not() -> None:
    lines = tables.comparison(document()).splitlines()
    assert len(lines) == 2 + 4
    assert lines[2] == "| PayNow | 3,000 | 10.0 | 20.0 | 30.0 | 0.20 | – | 0.01 |"
    assert len({line.count("|") for line in lines}) == 1


def test_a_ratio_is_of_medians_and_unknown_without_either() -> None:
    assert ratio(document(), "floor") == pytest.approx(0.6)
    assert ratio(document(), "unbatched") is None
    assert ratio({"machine": MACHINE}, "floor") is None


def test_aims_are_judged_where_they_were_measured() -> None:
    judged = {one.aim.name: (one.met, one.bound) for one in verdicts(document(), {"pgbench": "the processors"})}
    assert judged == {
        "floor": (True, ""),
        "pgbench": (False, "the processors"),
        "usual": (True, ""),
        "half_p99": (True, ""),
        "half_p999": (False, "not explained yet"),
        "memory": (True, ""),
    }


def test_each_aim_has_a_name_of_its_own_and_bounds_are_told_of_aims_only() -> None:
    names = [aim.name for aim in AIMS]
    assert len(set(names)) == len(names)
    told = {line.split("=")[0].strip() for line in BOUNDS.read_text(encoding="utf-8").splitlines() if "=" in line and not line.startswith("#")}
    assert told <= set(names)


def test_the_page_shows_every_part_that_was_measured_and_says_what_was_left_out() -> None:
    text = page.whole(document(), "2026-11-24")
    for part in ("## Aims", "## Rivals", "## What a decision costs", "## Open loop", "## Soak", "2026-11-24.svg", "paynow_2: no workers"):
        assert part in text
    assert "## Overload" not in text
    assert "memory mb" not in text


def test_the_plot_is_a_picture_with_a_bar_for_each_rival() -> None:
    drawn = plot.draw(document())
    root = ElementTree.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    bars = [float(bar.get("width", "0")) for bar in root.iter(f"{space}rect")][1:]
    assert len(bars) == 4
    assert bars[0] / bars[1] == pytest.approx(0.6, abs=0.01)
    assert any(text.text == "FastAPI" for text in root.iter(f"{space}text"))


def test_the_readme_is_changed_between_its_marks_only() -> None:
    text = f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n"
    changed = readme.replaced(text, "new\n")
    assert changed == f"before\n{readme.BEGIN}\nnew\n{readme.END}\nafter\n"
    assert readme.replaced(changed, "old\n") == text


@pytest.mark.parametrize("text", ["", readme.BEGIN, f"{readme.END}{readme.BEGIN}", f"{readme.BEGIN}{readme.END}{readme.END}"])
def test_a_readme_without_its_marks_is_left_alone(text: str) -> None:
    with pytest.raises(ValueError, match="marks"):
        readme.replaced(text, "new")


def test_our_readme_has_the_marks() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "new" in readme.replaced(text, "new")


def test_parts_of_a_day_are_gathered_in_one_document_and_published(tmp_path: Path) -> None:
    target = tmp_path / "README.md"
    target.write_text(f"{readme.BEGIN}{readme.END}")
    folder = tmp_path / "results"
    path = results.add("soak", {"memory_away_percent": 1.0}, MACHINE, folder)
    assert not results.publish(folder, target)
    assert results.add("comparison", document()["comparison"]["found"], MACHINE, folder) == path
    kept = json.loads(path.read_text())
    assert {"soak", "comparison", "machine", "version"} == set(kept)
    assert results.publish(folder, target)
    assert f"bench/results/{path.stem}.svg" in target.read_text()
    assert path.with_suffix(".svg").exists()
    assert path.with_suffix(".md").exists()


def test_payments_that_shared_a_statement_are_not_called_unbatched() -> None:
    check_unbatched(Figures(1, 1, 1, 1, 1, 1, 1, batch_claim=1.0, batch_settle=0.98))
    with pytest.raises(Broken, match="shared"):
        check_unbatched(Figures(1, 1, 1, 1, 1, 1, 1, batch_claim=1.0, batch_settle=3.0))
