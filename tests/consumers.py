"""The example consumer under test: its module, its processes, and what its database has to hold after some events."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "consumer.py"
ON_A_PIPE = Path(__file__).parent / "consumer_on_a_pipe.py"

Event = Mapping[str, Any]
Held = tuple[int, dict[str, str], dict[str, Decimal]]
"""How many events were seen, how each payment stands, and what was captured by currency."""


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_consumer", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = _loaded()


def expected(events: Iterable[Event]) -> Held:
    """What holds when each of these events, in whatever order, was worked off once."""
    states: dict[str, tuple[int, str]] = {}
    captured: dict[str, Decimal] = {}
    ids = set()
    for event in sorted(events, key=lambda event: event["sequence"]):
        if event["id"] in ids:
            continue
        ids.add(event["id"])
        data = event["data"]
        if event["type"] == "paynow.reservation.captured":
            captured[data["currency"]] = captured.get(data["currency"], Decimal(0)) + Decimal(data["amount"])
        word = {"decided": "decision", "resolved": "resolution"}.get(event["type"].rpartition(".")[2], "reservation")
        states[event["subject"]] = (int(event["sequence"]), data[word])
    return len(ids), {payment: state for payment, (_, state) in states.items()}, captured


def held(database: Path) -> Held:
    """What the consumer's database holds; nothing before it has made its tables."""
    with closing(sqlite3.connect(database)) as connection:
        if not connection.execute("select 1 from sqlite_master where name = 'captured'").fetchall():
            return 0, {}, {}
        ((seen,),) = connection.execute("select count(*) from seen")
        captured = connection.execute("select currency, amount from captured").fetchall()
        return (
            seen,
            dict(connection.execute("select payment_id, state from payments")),
            {currency: Decimal(amount) for currency, amount in captured},
        )


class PipeConsumer:
    """A consumer that gets its batches from the test."""

    def __init__(self, database: Path) -> None:
        self._process = subprocess.Popen([sys.executable, ON_A_PIPE, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def send(self, events: Iterable[Event]) -> None:
        self._write(json.dumps(list(events)))

    def asks(self) -> None:
        """Waits until it says that a batch need not come again."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "done\n"

    def go_on(self) -> None:
        """The source has remembered it."""
        self._write("yes")

    def kill(self) -> None:
        """SIGKILL: nothing is said or tidied up."""
        self._process.kill()
        self._process.wait(timeout=30)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


@contextmanager
def consuming(source: str, server: str, channel: str, database: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The example as it is called, killed at the end: it never ends by itself."""
    process = subprocess.Popen([sys.executable, EXAMPLE, source, server, channel, "--database", database])
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=30)
