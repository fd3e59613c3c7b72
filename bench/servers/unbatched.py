"""PayNow with its batching taken out: every payment has its statements, its transactions and its flush for itself. All else is the same.

`python -m bench.servers.unbatched serve --port N` takes what `paynow` takes.
"""

from __future__ import annotations

from typing import Any

from paynow import app
from paynow.cli import main
from paynow.store import Store

LANES = 16
"""As many payments at once in each step as the pool has connections."""


def alone(dsn: str, **options: Any) -> Store:
    """A store in which no two payments share a statement."""
    return Store(dsn, **{**options, "lanes": LANES, "batch_max": 1})


if __name__ == "__main__":
    app.Store = alone  # type: ignore[assignment, misc]
    main()
