"""Runs the program `paynow` as an operator does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from database import way_to


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What it wrote for programs; an assertion if it failed."""
        assert self.code == 0, self.err
        return json.loads(self.out)


def paynow(folder: Path, dsn: str | None, *arguments: str, **environ: str) -> Ended:
    """The command in a folder, on a database (None: the embedded one)."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PAYNOW_") and name not in ("DATABASE_URL", "API_KEY")},
        **(way_to(dsn) if dsn else {}),
        "LOG_HASH_KEY": "the-hash-key-of-the-tests",
        **environ,
    }
    ended = subprocess.run(
        [sys.executable, "-m", "paynow", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)
