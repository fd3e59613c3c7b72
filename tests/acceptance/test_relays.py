"""`paynow relay` beside others: they share the work, whatever dies meanwhile, and `paynow events` shows and sends again what sinks lack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from commands import paynow
from database import ALL_DELIVERED, execute
from waiting import eventually

CUSTOMERS = 40
WRITE = """
insert into outbox (customer_id, sequence, event_id, type, subject, data)
select 'c_' || c, %s, gen_random_uuid(), 'paynow.payment.decided', gen_random_uuid()::text, json_build_object('customerId', 'c_' || c)
from generate_series(1, %s) c
"""
SINK = '''
import json, os
from paynow.plugin_api import DeliveryRefused, SinkGone, hookimpl

class FileSink:
    """Writes what it gets to a file of its process; refuses a customer, or wants no more, while a file says so."""

    name = "file"

    async def deliver(self, events):
        if os.path.exists("gone"):
            raise SinkGone("410")
        if os.path.exists("refuse") and any(event["data"]["customerId"] == "c_7" for event in events):
            raise DeliveryRefused("not c_7")
        with open(f"got_{os.getpid()}", "a") as file:
            file.write("".join(json.dumps([event["id"], event["data"]["customerId"], int(event["sequence"])]) + "\\n" for event in events))

    async def close(self):
        pass

@hookimpl
def paynow_register_event_sinks(settings):
    return [FileSink()]
'''
CONFIG = """
[plugins]
dirs = ["plugins"]
enabled = ["get_balance", "get_risk_signals", "create_case", "sink_file"]
[events]
sinks = ["file"]
"""


def prepare(folder: Path) -> None:
    (folder / "plugins").mkdir()
    (folder / "plugins" / "sink_file.py").write_text(SINK)
    (folder / "paynow.toml").write_text(CONFIG)


@contextmanager
def relay(folder: Path, dsn: str) -> Iterator[subprocess.Popen[bytes]]:
    """A relay process, at work; stopped at the end if it still lives."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PAYNOW_")}
    environ |= {"DATABASE_URL": dsn, "LOG_HASH_KEY": "the-hash-key-of-the-tests", "PAYNOW_CONFIG": "paynow.toml"}
    log = folder / f"log_{len(list(folder.glob('log_*')))}"
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "paynow", "relay"], cwd=folder, env=environ, stderr=stderr)
    try:
        eventually(lambda: b'"relaying"' in log.read_bytes())
        yield process
    finally:
        process.terminate()
        assert process.wait(30) in (0, -signal.SIGKILL), log.read_text()


def got(folder: Path) -> dict[int, list[tuple[str, str, int]]]:
    """What each process delivered, in its order: event id, customer, sequence."""
    return {int(file.name[4:]): [tuple(json.loads(line)) for line in file.read_text().splitlines()] for file in folder.glob("got_*")}


def test_relays_share_the_work_and_killing_them_loses_nothing_nor_mixes_up_a_customer(database: str, tmp_path: Path) -> None:
    prepare(tmp_path)
    sequence = 0

    def write(rounds: int) -> None:
        nonlocal sequence
        for _ in range(rounds):
            sequence += 1
            execute(database, WRITE, sequence, CUSTOMERS)

    with relay(tmp_path, database) as first, relay(tmp_path, database):
        eventually(lambda: execute(database, "select count(distinct relay_id) from event_partitions") == [(2,)])
        write(20)
        eventually(lambda: len(got(tmp_path)) == 2)
        first.kill()
        first.wait()
        write(20)
        with relay(tmp_path, database) as third:
            write(10)
            third.kill()
            third.wait()
            write(10)
            eventually(lambda: execute(database, ALL_DELIVERED)[0][0], within_s=40)
    delivered = got(tmp_path)
    by_customer: dict[str, set[int]] = defaultdict(set)
    for events in delivered.values():
        last: dict[str, int] = {}
        for _, customer, number in events:
            assert last.get(customer, number - 1) + 1 == number, "each process goes on where another stopped, without a gap"
            last[customer] = number
            by_customer[customer].add(number)
    assert by_customer == {f"c_{number}": set(range(1, sequence + 1)) for number in range(1, CUSTOMERS + 1)}
    ids: dict[tuple[str, int], set[str]] = defaultdict(set)
    for event_id, *key in (event for events in delivered.values() for event in events):
        ids[tuple(key)].add(event_id)
    assert {len(found) for found in ids.values()} == {1}, "what comes twice comes under its id"


def test_an_operator_sees_what_a_sink_lacks_and_sends_it_again(database: str, tmp_path: Path) -> None:
    prepare(tmp_path)

    def sink() -> dict[str, object]:
        (found,) = paynow(tmp_path, database, "events", "sinks", "--json").json()
        return found

    def delivered() -> list[str]:
        return [event_id for events in got(tmp_path).values() for event_id, *_ in events]

    (tmp_path / "refuse").touch()
    with relay(tmp_path, database):
        eventually(lambda: execute(database, "select count(*) from event_sinks") == [(1,)])
        execute(database, WRITE, 1, CUSTOMERS)
        eventually(lambda: execute(database, "select count(*) from dead_letters") == [(1,)] and len(delivered()) == CUSTOMERS - 1)
        eventually(lambda: sink() == {"sink": "file", "behind": 0, "oldestSeconds": 0, "retries": 0, "deadLetters": 1, "state": "enabled"})
        (letter,) = paynow(tmp_path, database, "events", "dead-letters", "--sink", "file", "--json").json()
        assert (letter["customerId"], letter["error"]) == ("c_7", "DeliveryRefused: not c_7")
        assert letter["eventId"] in paynow(tmp_path, database, "events", "dead-letters").out

        (tmp_path / "refuse").unlink()
        ended = paynow(tmp_path, database, "events", "redeliver", "file", "--event", letter["eventId"])
        assert (ended.code, ended.out) == (0, "1 event is delivered again by the next relay\n")
        eventually(lambda: len(delivered()) == CUSTOMERS)
        assert letter["eventId"] in delivered()
        assert paynow(tmp_path, database, "events", "redeliver", "file", "--all").code == 1

        since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        ended = paynow(tmp_path, database, "events", "replay", "file", "--from", since)
        assert ended.out == f"{CUSTOMERS} events are delivered again by the next relay\n"
        eventually(lambda: len(delivered()) == 2 * CUSTOMERS)
        assert len(set(delivered())) == CUSTOMERS
        assert paynow(tmp_path, database, "events", "replay", "other", "--from", since).err == "paynow: no relay ever served a sink 'other'\n"

        (tmp_path / "gone").touch()
        execute(database, WRITE, 2, CUSTOMERS)
        eventually(lambda: sink()["state"] == "disabled")
        (tmp_path / "gone").unlink()
        assert sink()["behind"] == CUSTOMERS
        assert paynow(tmp_path, database, "events", "enable", "file").out == "file gets its events again, beginning with those that wait\n"
        eventually(lambda: len(delivered()) == 3 * CUSTOMERS)
        assert paynow(tmp_path, database, "events", "enable", "other").code == 1
    assert paynow(tmp_path, database, "events", "forget", "file").out == "file is forgotten\n"
    assert paynow(tmp_path, database, "events", "sinks", "--json").json() == []
