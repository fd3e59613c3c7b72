"""The results' files: one JSON document a day, to which each command adds its part, and what is made of the newest."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.report import page, plot, readme
from bench.stage import ROOT

FOLDER = ROOT / "bench" / "results"


def add(part: str, found: Any, machine: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Puts a part into today's document, in place of an earlier one of today, and makes page and plot anew; the document's path."""
    now = datetime.now(UTC)
    path = folder / f"{now.date().isoformat()}.json"
    document = json.loads(path.read_text()) if path.exists() else {"version": 1}
    document[part] = {"taken_at": now.isoformat(timespec="seconds"), "found": found}
    document["machine"] = machine
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    render(path)
    return path


def render(path: Path) -> None:
    """The page and the plot beside a document."""
    document = json.loads(path.read_text())
    path.with_suffix(".md").write_text(page.whole(document, path.stem))
    if "comparison" in document:
        path.with_suffix(".svg").write_text(plot.draw(document))


def newest(folder: Path = FOLDER) -> Path | None:
    """The newest document that holds a comparison, or None."""
    found = [path for path in sorted(folder.glob("????-??-??.json"), reverse=True) if "comparison" in json.loads(path.read_text())]
    return found[0] if found else None


def publish(folder: Path = FOLDER, target: Path = ROOT / "README.md") -> bool:
    """Writes the newest comparison into the README; False if there is none."""
    path = newest(folder)
    if path is None:
        return False
    render(path)
    text = readme.replaced(target.read_text(), readme.section(json.loads(path.read_text()), path.stem))
    target.write_text(text)
    return True
