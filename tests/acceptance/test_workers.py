"""`paynow serve --workers 2`: promises and figures hold over both, the dead are replaced, and nothing is left behind."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

import patience
from commands import paynow
from database import OwnServer, execute, server_folder
from paynow.store import migrations
from service import API_KEY, UNLIMITED, RunningService, audit, balance, body, open_account, running
from waiting import eventually, eventually_async, meanwhile

TWO = ("--workers", "2")
AT_ONCE = 50
ROUNDS = 10
CUSTOMERS = 20


@pytest.fixture(scope="module")
def two_workers(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """For all tests that let it live; they use customers of their own."""
    with running(module_database, tmp_path_factory.mktemp("service"), UNLIMITED, arguments=TWO) as started:
        yield started


@pytest.fixture
def own_workers(database: str, tmp_path: Path) -> Iterator[RunningService]:
    with running(database, tmp_path, UNLIMITED, arguments=TWO) as started:
        yield started


def pids(service: RunningService) -> dict[int, int]:
    """The newest process of each worker."""
    return {line["worker"]: line["pid"] for line in service.lines("worker serving")}


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def both_answered(service: RunningService) -> bool:
    lines = service.lines("request answered") + service.lines("payment decided")
    return {line["worker"] for line in lines} == {1, 2}


async def decide(client: aiohttp.ClientSession, document: dict) -> tuple[int, bytes, bool]:
    async with client.post("/api/payments/decide", json=document) as response:
        return response.status, await response.read(), response.headers.get("Idempotent-Replayed") == "true"


def request_of(key: str) -> dict:
    return body(f"c_{int(key.split('-')[1]) % CUSTOMERS}", "0.01", key)


async def send_until(service: RunningService, stop: asyncio.Event, keys: itertools.count, answered: dict[str, bytes], broken: list[str]) -> None:
    """Sends one payment after another over connections that it opens anew when they break; keeps every 200 by its key."""
    async with service.client() as client:
        while not stop.is_set():
            key = f"k-{next(keys)}"
            try:
                status, answer, _ = await decide(client, request_of(key))
            except aiohttp.ClientError:
                broken.append(key)
                await asyncio.sleep(0.01)
                continue
            assert status == 200, answer
            answered[key] = answer


async def assert_replayed(service: RunningService, answered: dict[str, bytes]) -> None:
    async with service.client() as client:
        for key, answer in answered.items():
            assert await decide(client, request_of(key)) == (200, answer, True)


def open_accounts(dsn: str) -> None:
    for number in range(CUSTOMERS):
        open_account(dsn, f"c_{number}", 10_000_000)


# ---------------------------------------------------------------- promises


async def test_fifty_at_once_with_one_key_get_one_decision(two_workers: RunningService, tmp_path) -> None:
    service = two_workers
    open_account(service.dsn, "c_1", 100_000)
    for number in range(ROUNDS):
        async with service.client() as client:  # new connections each round, spread anew
            answers = await asyncio.gather(*(decide(client, body("c_1", "1.00", f"k-{number}")) for _ in range(AT_ONCE)))
            assert Counter(status for status, _, _ in answers) == {200: AT_ONCE}
            assert len({answer for _, answer, _ in answers}) == 1
            assert sum(replayed for _, _, replayed in answers) == AT_ONCE - 1
    assert both_answered(service)
    assert balance(service.dsn, "c_1") == (100_000 - 100 * ROUNDS, 100 * ROUNDS)
    assert execute(service.dsn, "select event_seq from customers where customer_id = 'c_1'") == [(ROUNDS,)]
    audit(service.dsn, tmp_path)


async def test_the_customers_limit_is_exact_over_both(database: str, tmp_path) -> None:
    limit = {"PAYNOW_RATE_LIMIT__CUSTOMER": "1/m", "PAYNOW_RATE_LIMIT__BURST": "5"}
    with running(database, tmp_path, limit, arguments=TWO) as service:
        for number in range(ROUNDS):
            open_account(database, f"c_{number}", 100_000)
            async with service.client() as client:
                documents = (body(f"c_{number}", "1.00", f"k-{n}") for n in range(AT_ONCE))
                answers = await asyncio.gather(*(decide(client, document) for document in documents))
            assert Counter(status for status, _, _ in answers) == {200: 5, 429: AT_ONCE - 5}
        assert both_answered(service)


async def test_the_whole_balance_is_reserved_once(two_workers: RunningService) -> None:
    open_account(two_workers.dsn, "c_whole", 10_000)
    async with two_workers.client() as client:
        answers = await asyncio.gather(*(decide(client, body("c_whole", "100.00", f"k-{n}")) for n in range(AT_ONCE)))
    assert {status for status, _, _ in answers} == {200}
    assert Counter(json.loads(answer)["decision"] for _, answer, _ in answers) == {"allow": 1, "block": AT_ONCE - 1}
    assert both_answered(two_workers)
    assert balance(two_workers.dsn, "c_whole") == (0, 10_000)


async def test_a_revoked_key_stops_working_in_both_within_ten_seconds(two_workers: RunningService, tmp_path) -> None:
    made = paynow(tmp_path, two_workers.dsn, "keys", "create", "--name", "n", "--scopes", "accounts:read", "--json").json()

    async def statuses() -> set[int]:
        async with two_workers.client(**{"X-API-Key": made["key"]}) as client:
            answers = await asyncio.gather(*(client.get("/api/accounts/c_nobody") for _ in range(16)))
            return {answer.status for answer in answers}

    assert await statuses() == {404}
    assert both_answered(two_workers)
    assert paynow(tmp_path, two_workers.dsn, "keys", "revoke", made["id"]).code == 0

    async def refused() -> bool:
        return await statuses() == {401}

    await eventually_async(refused, within_s=10)


# ---------------------------------------------------------------- figures and events


async def test_any_worker_tells_the_recent_events_of_all(two_workers: RunningService) -> None:
    open_account(two_workers.dsn, "c_events", 10_000)
    async with two_workers.client() as client:
        for status, _, _ in await asyncio.gather(*(decide(client, body("c_events", "1.00", f"k-{n}")) for n in range(10))):
            assert status == 200

    async def told() -> bool:
        async with two_workers.client() as client:
            answers = await asyncio.gather(*(client.get("/api/events/recent?limit=200") for _ in range(16)))
            events = [event for answer in answers for event in (await answer.json())["items"] if event["data"]["customerId"] == "c_events"]
        return Counter(int(event["sequence"]) for event in events) == dict.fromkeys(range(1, 11), 16)

    await eventually_async(told)
    assert both_answered(two_workers)


async def test_any_worker_tells_the_figures_of_all_and_a_death_loses_none(own_workers: RunningService) -> None:
    service = own_workers
    open_accounts(service.dsn)

    async def figures() -> list[dict]:
        """Of both: asked over many connections at once."""
        async with service.client() as client:
            answers = await asyncio.gather(*(client.get("/api/metrics") for _ in range(16)))
            return [await answer.json() for answer in answers]

    async with service.client() as client:
        for status, _, _ in await asyncio.gather(*(decide(client, request_of(f"k-{n}")) for n in range(60))):
            assert status == 200
    assert both_answered(service)
    assert {told["decisions"]["allow"] for told in await figures()} == {60}
    route = "POST /api/payments/decide"
    assert {told["routes"][route]["count"] for told in await figures()} == {60}
    assert {told["tools"]["getBalance"]["calls"] for told in await figures()} == {60}
    before = (await figures())[0]["routes"][route]
    os.kill(pids(service)[1], signal.SIGKILL)
    await meanwhile(lambda: len(service.lines("worker serving")) == 3)
    async with service.client() as client:
        for status, _, _ in await asyncio.gather(*(decide(client, request_of(f"k-{n}")) for n in range(60, 80))):
            assert status == 200
    after = await figures()
    assert {told["decisions"]["allow"] for told in after} == {80}
    assert before["p95Latency"] > 0
    assert all(told["routes"][route]["p95Latency"] > 0 for told in after)
    async with service.client() as client, client.get("/metrics") as response:
        text = await response.text()
    assert 'paynow_decisions_total{decision="allow"} 80.0' in text
    assert "paynow_worker_starts_total 3.0" in text
    assert 'process_cpu_seconds_total{worker="1"}' in text
    assert 'process_cpu_seconds_total{worker="2"}' in text


# ---------------------------------------------------------------- life and death


async def test_a_worker_killed_under_load_is_replaced_and_no_answer_is_lost(database: str, tmp_path) -> None:
    open_accounts(database)
    keys, answered, broken, stop = itertools.count(), {}, [], asyncio.Event()
    with running(database, tmp_path, {**UNLIMITED, "PAYNOW_IDEMPOTENCY__LEASE_S": "4"}, arguments=TWO) as service:
        senders = [asyncio.create_task(send_until(service, stop, keys, answered, broken)) for _ in range(16)]
        for round_ in range(3):
            await meanwhile(lambda round_=round_: len(answered) > 200 * (round_ + 1), within_s=30)
            victim = round_ % 2 + 1
            survivor = pids(service)[3 - victim]
            os.kill(pids(service)[victim], signal.SIGKILL)
            seen = len(answered)
            await meanwhile(lambda seen=seen: len(answered) > seen + 100, within_s=10)
            await meanwhile(lambda round_=round_: len(service.lines("worker serving")) == 3 + round_, within_s=20)
            assert pids(service)[3 - victim] == survivor
        assert is_alive(survivor)
        stop.set()
        await asyncio.gather(*senders)
        died = service.lines("worker died, another takes its place")
        assert [(line["worker"], line["signal"]) for line in died] == [(1, "SIGKILL"), (2, "SIGKILL"), (1, "SIGKILL")]
        eventually(lambda: execute(database, "select count(*) from idempotency_keys where state = 'processing'") == [(0,)], within_s=30)
        await assert_replayed(service, answered)
    decided = execute(database, "select count(*), count(distinct payment_id) from idempotency_keys where state = 'decided'")[0]
    assert decided[0] == decided[1] >= len(answered)
    audit(database, tmp_path)


async def test_sigterm_under_load_leaves_nothing_undecided(database: str, tmp_path) -> None:
    open_accounts(database)
    keys, answered, broken, stop = itertools.count(), {}, [], asyncio.Event()
    service = RunningService(database, tmp_path, UNLIMITED, arguments=TWO)
    senders = [asyncio.create_task(send_until(service, stop, keys, answered, broken)) for _ in range(16)]
    await meanwhile(lambda: len(answered) > 200, within_s=30)
    code = await asyncio.to_thread(service.stop)
    stop.set()
    await asyncio.gather(*senders)
    assert code == 0
    assert not any(is_alive(pid) for pid in pids(service).values())
    assert execute(database, "select count(*) from idempotency_keys where state = 'processing'") == [(0,)]
    assert execute(database, "select count(*) from payments")[0][0] >= len(answered)
    with running(database, tmp_path, UNLIMITED, arguments=TWO) as again:
        await assert_replayed(again, answered)
    audit(database, tmp_path)


HELD_CONFIG = (
    patience.CONFIG
    + """
[server]
workers = 2
"""
)


async def test_what_is_under_way_finishes_also_when_the_parent_is_killed() -> None:
    with server_folder() as folder:
        (folder / "plugins").mkdir()
        (folder / "plugins" / "get_patience.py").write_text(patience.PLUGIN)
        (folder / "paynow.toml").write_text(HELD_CONFIG.format(file=folder / "held"))
        service = RunningService(
            "", folder, {"DATABASE_URL": "", **UNLIMITED}, arguments=("--demo", "--config", "paynow.toml")
        )  # the embedded server
        async with service.client() as client:
            with patience.held(folder / "held"):
                sending = asyncio.create_task(decide(client, body("c_123")))
                await meanwhile(lambda: service.lines(patience.WAITS))
                service.process.send_signal(signal.SIGKILL)
                await meanwhile(lambda: not service.listens)
            status, answer, _ = await sending
        assert (status, json.loads(answer)["decision"]) == (200, "allow")
        await meanwhile(lambda: processes_of(folder) == [])
        assert service.stop() == -signal.SIGKILL


async def test_a_second_signal_ends_what_is_under_way(plugin_service, tmp_path) -> None:
    config = HELD_CONFIG.format(file=tmp_path / "held") + "shutdown_grace_s = 60\n"
    service = plugin_service({"get_patience": patience.PLUGIN}, config)
    open_account(service.dsn, "c_1", 10_000)
    async with service.client() as client:
        with patience.held(tmp_path / "held"):
            sending = asyncio.create_task(client.post("/api/payments/decide", json=body("c_1")))
            await meanwhile(lambda: service.lines(patience.WAITS))
            service.process.send_signal(signal.SIGINT)
            await meanwhile(lambda: service.lines("stopped"))  # the one that had nothing to do
            service.process.send_signal(signal.SIGINT)
            with pytest.raises(aiohttp.ClientError):
                await sending
    assert await asyncio.to_thread(service.process.wait, 5) == 1
    assert not any(is_alive(pid) for pid in pids(service).values())
    service.process.returncode = 0


def processes_of(folder: Path) -> list[str]:
    """Command lines of the living processes that work in the folder or were told of it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(folder) in line or str((process / "cwd").readlink()).startswith(str(folder)):
                found.append(line)
        except OSError:
            continue
    return found


def own_folders() -> set[Path]:
    return {path for path in Path("/tmp").glob("paynow-*") if (path / "worker_1.pid").exists()}


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_nothing_is_left_when_the_parent_ends_not_even_postgresql(end: signal.Signals) -> None:
    others = own_folders()
    with server_folder() as folder:
        environ = {"LOG_HASH_KEY": "the-hash-key-of-the-tests", "API_KEY": API_KEY, "PAYNOW_SERVER__SHUTDOWN_GRACE_S": "5"}
        environ |= {name: value for name, value in os.environ.items() if not name.startswith("PAYNOW_") and name != "DATABASE_URL"}
        command = [sys.executable, "-m", "paynow", "serve", "--demo", "--port", "0", *TWO]
        with subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as parent:
            assert parent.stdout is not None
            said = []
            for line in parent.stdout:
                said.append(line)
                if "Ctrl-C stops everything" in line:
                    break
            assert sum("PayNow is ready on" in line for line in said) == 1
            assert sum("paynow.cli.worker" in line for line in processes_of(folder)) == 2
            assert own_folders() > others
            parent.send_signal(end)
            assert parent.wait(timeout=20) == (-signal.SIGKILL if end == signal.SIGKILL else 0)
            eventually(lambda: processes_of(folder) == [], within_s=5)
        assert own_folders() == others


FATAL = """
import os
from pathlib import Path
from paynow.plugin_api import hookimpl

@hookimpl
def paynow_sensitive_fields():
    if Path("fatal").exists() and "paynow.cli.worker" in Path("/proc/self/cmdline").read_text():
        os._exit(7)
    return []
"""
FATAL_CONFIG = """
[server]
workers = 2
[plugins]
dirs = ["plugins"]
enabled = ["get_balance", "get_risk_signals", "create_case", "fatal"]
"""


def test_a_worker_that_cannot_start_ends_the_service_with_the_reason(database: str, tmp_path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "fatal.py").write_text(FATAL)
    (tmp_path / "paynow.toml").write_text(FATAL_CONFIG)
    (tmp_path / "fatal").touch()
    ended = paynow(tmp_path, database, "serve", "--config", "paynow.toml", "--port", "0")
    assert ended.code == 1
    assert "worker 1 ended before it served (3×, exit code 7)" in ended.err


async def test_a_worker_that_cannot_be_replaced_leaves_the_others_serving_and_is_tried_on(plugin_service, tmp_path) -> None:
    service = plugin_service({"fatal": FATAL}, FATAL_CONFIG)
    (tmp_path / "fatal").touch()
    os.kill(pids(service)[1], signal.SIGKILL)
    await meanwhile(lambda: len(service.lines("worker died, another takes its place")) > 3, within_s=30)
    async with service.client() as client, client.get("/readyz") as response:
        assert response.status == 200
    (tmp_path / "fatal").unlink()
    await meanwhile(lambda: len(service.lines("worker serving")) == 3, within_s=30)


def test_a_port_that_another_paynow_shares_is_taken(two_workers: RunningService, tmp_path) -> None:
    ended = paynow(tmp_path, two_workers.dsn, "serve", *TWO, "--port", str(two_workers.port))
    assert ended.code == 1
    assert "cannot listen on 127.0.0.1" in ended.err
    assert "in use" in ended.err


def test_a_database_without_room_for_all_connections_stops_the_boot(own_server: OwnServer, tmp_path) -> None:
    migrations.migrate(own_server.dsn)
    without_pooler = {"DATABASE_URL": own_server.dsn, "PAYNOW_DATABASE__POOLER": "none"}
    ended = paynow(tmp_path, own_server.dsn, "serve", "--workers", "6", "--port", "0", **without_pooler)
    assert ended.code == 2
    assert "database.connections_max: 6 workers may open 102 connections" in ended.err
    assert "PostgreSQL gives 97" in ended.err


def test_port_zero_is_one_port_for_all(two_workers: RunningService) -> None:
    assert {line["port"] for line in two_workers.lines("worker serving")} == {two_workers.port}
    (serving,) = two_workers.lines("serving")
    assert serving["workers"] == 2
    with socket.create_connection(("127.0.0.1", two_workers.port)):
        pass
