"""Named statements from `sql/queries/*.sql`: a name, a sentence, the statement."""

from __future__ import annotations

import re
from pathlib import Path

_HEAD = re.compile(r"^-- name: (?P<name>[a-z_]+)$", re.MULTILINE)


def load_queries(folder: Path) -> dict[str, str]:
    """Every statement by its name. Raises `ValueError` if a name stands twice or a statement has no sentence of purpose."""
    queries: dict[str, str] = {}
    for file in sorted(folder.glob("*.sql")):
        parts = _HEAD.split(file.read_text(encoding="utf-8"))
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            comment, statement = _split(body)
            if name in queries:
                raise ValueError(f"{file.name}: {name} stands twice")
            if not comment or not statement:
                raise ValueError(f"{file.name}: {name} lacks its sentence or its statement")
            queries[name] = statement
    return queries


def _split(body: str) -> tuple[str, str]:
    lines = body.strip().splitlines()
    comment = [line for line in lines if line.startswith("--")]
    return " ".join(comment), "\n".join(line for line in lines if not line.startswith("--")).strip()
