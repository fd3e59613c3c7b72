"""The example consumer with a source of the tests' own: batches come as lines of JSON, and after each it stands still until it is told to go on.

python consumer_on_a_pipe.py DATABASE
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

from consumers import example


async def batches() -> AsyncIterator[tuple[list[dict[str, Any]], Any]]:
    """Telling the source is a line there, and one back."""

    async def done() -> None:
        print("done", flush=True)  # noqa: T201
        assert sys.stdin.readline()

    while line := sys.stdin.readline():
        yield json.loads(line), done


if __name__ == "__main__":
    with closing(example.Inbox(sys.argv[1])) as inbox:
        asyncio.run(example.consume(batches(), inbox))
