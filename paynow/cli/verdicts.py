"""The table of verdicts that a candidate and the past came to, as a backtest and a shadow report show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from paynow.cli.common import show_table


def show_matrix(rows: Iterable[Mapping[str, Any]]) -> None:
    """A line for each pair of verdicts."""
    cells = [
        (
            row["recorded"],
            row["candidate"],
            "" if row["recorded"] == row["candidate"] else "changes",
            f"{row['decisions']:,}",
            f"{row['unsure']:,}" if row["unsure"] else "-",
            "  ".join(f"{amount['amount']} {amount['currency']} ({amount['decisions']:,})" for amount in row["amounts"]) or "-",
        )
        for row in rows
    ]
    show_table(("recorded", "candidate", "", "decisions", "unsure", "amounts"), cells)
