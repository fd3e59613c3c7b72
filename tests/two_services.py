"""Two real services on one database, with whatever a test needs to stop them at an exact point, kill them there, and see what is stored.

A lock in the database holds a step open: who waits for it is in the middle of that step, for certain and for as long as the test likes.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import psycopg2

import patience
from paynow.money import to_text
from paynow.payments.reservations import Reservations
from paynow.store import Store
from promise_model import REVIEWED_PAYEE, Asked, Facts
from service import RunningService
from waiting import eventually, eventually_async

Result = TypeVar("Result")
SERVICES = 2
GATES = {"claim": "lock table attempts in share mode", "settle": "lock table payments in share mode"}
"""What keeps a claim, or a settle and the end of a reservation, from committing: they have done a part of their work by then."""

CONFIG = """
# Patient: what is tried here is what happens to payments whose process dies, not to those whose database is slow.
[plugins]
enabled = ["get_balance", "get_risk_signals", "create_case", "sink_file", "get_patience"]
[plugins.settings.sink_file]
file = "{events}"
[events]
sinks = ["file"]
[rate_limit]
customer = "off"
[policy]
file = "policy.toml"
[database]
statement_timeout_ms = 20000
acquire_timeout_ms = 20000
[plugins.settings.get_patience]
file = "{dozing}"
[agent]
plan = ["getBalance", "getRiskSignals", "getPatience"]
deadline_ms = 20000
[agent.tools.getPatience]
timeout_ms = 15000
on_failure = "ignore"
[agent.tools.getBalance]
timeout_ms = 15000
[agent.tools.getRiskSignals]
timeout_ms = 15000
[agent.tools.createCase]
timeout_ms = 15000
[idempotency]
lease_s = 60
wait_ms = 20000
"""
POLICY = f"""
[[rule]]
id = "insufficient_funds"
when = "getBalance.available_minor < payment.amount_minor"
then = "block"
message = "The available balance does not cover the amount"
[[rule]]
id = "looked_at"
when = 'payment.payee_id == "{REVIEWED_PAYEE}"'
then = "review"
message = "Every payment to this payee is looked at"
"""
SINK = '''
"""Keeps every delivery, one line an event: what was delivered stays so when the process dies."""

import json
from pathlib import Path

from paynow.plugin_api import hookimpl


class FileSink:
    name = "file"

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    async def deliver(self, events) -> None:
        for event in events:  # a line starts with its own end of line: one that was torn by a death spoils no other
            self._file.write(b"\\n" + json.dumps(event).encode() + b"\\n")

    async def close(self) -> None:
        self._file.close()


@hookimpl
def paynow_register_event_sinks(settings):
    return [FileSink(Path(settings.plugins.settings["sink_file"]["file"]))]
'''


IN_A_STEP = """
select pid from pg_stat_activity
where datname = current_database() and application_name = 'paynow' and state <> 'idle' and query ~ '(claim_|settle_payments|end_reservations)'
"""
BEHIND = """
with recursive behind (pid) as (
    values (%s)
    union
    select a.pid from pg_stat_activity a, behind b
    where a.datname = current_database() and a.wait_event_type = 'Lock' and b.pid = any (pg_blocking_pids(a.pid))
)
select pid from behind
"""


@dataclass(frozen=True, slots=True)
class Gate:
    """A lock that the test holds: its session, and how to let go."""

    pid: int
    let_go: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer over HTTP; `code` is that of a problem."""

    status: int
    body: bytes
    replayed: bool

    @property
    def code(self) -> str | None:
        return json.loads(self.body).get("code")


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it was written, or as it was delivered."""

    customer: str
    sequence: int
    type: str
    subject: str
    told: str
    """The decision, or how the reservation ended."""


class TwoServices:
    """Everything that a test does to them. All coroutines run on a loop of its own, through `run`."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn = dsn
        self._folder = folder
        self._events = folder / "events.jsonl"
        self._events.touch()
        (folder / "plugins").mkdir()
        (folder / "plugins" / "sink_file.py").write_text(SINK)
        (folder / "plugins" / "get_patience.py").write_text(patience.PLUGIN)
        (folder / "policy.toml").write_text(POLICY)
        (folder / "paynow.toml").write_text(CONFIG.format(events=self._events, dozing=folder / "dozing_"))
        self._runner = asyncio.Runner()
        self._database = psycopg2.connect(dsn)
        self._database.autocommit = True
        self._store = Store(dsn)
        self._services: list[RunningService | None] = [None] * SERVICES
        self._clients: list[aiohttp.ClientSession | None] = [None] * SERVICES
        self._seen_events: dict[str, Event] = {}
        self._read_to = 0

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(work)

    # ---- processes

    def heal(self) -> None:
        """Both run, and nothing is left of a test that failed half-way."""
        for number, service in enumerate(self._services):
            if service is None or service.process.poll() is not None:
                self.start(number)
        self.execute("delete from idempotency_keys where state = 'processing'")

    def start(self, number: int) -> None:
        environ = {"PATIENCE": str(number)}
        service = RunningService(self.dsn, self._folder, environ, arguments=("--config", str(self._folder / "paynow.toml")))
        self._services[number] = service
        self._clients[number] = self.run(_made(service.client))

    def pause(self, number: int) -> None:
        self._services[number].process.send_signal(signal.SIGSTOP)

    def resume(self, number: int) -> None:
        self._services[number].process.send_signal(signal.SIGCONT)

    async def kill(self, number: int) -> None:
        """`kill -9`. Returns when the process is gone; what it had sent to the database may still be carried out."""
        self._services[number].kill()
        await self._clients[number].close()

    def close(self) -> list[int]:
        """The exit codes."""
        for client in filter(None, self._clients):
            self.run(client.close())
        codes = [service.stop() for service in self._services if service is not None]
        self.run(self._store.close())
        self._runner.close()
        self._database.close()
        return codes

    # ---- requests

    async def decide(self, number: int, asked: Asked, *, amount: str | None = None) -> Reply:
        """Asks about a payment; `amount` is how the amount is written, as JSON."""
        document = {"customerId": asked.customer, "currency": asked.currency, "payeeId": asked.payee, "idempotencyKey": asked.key}
        written = amount or json.dumps(to_text(asked.amount, asked.currency))
        return await self._post(number, "/api/payments/decide", f'{json.dumps(document)[:-1]}, "amount": {written}}}')

    async def end(self, number: int, payment_id: str, how: str) -> Reply:
        """`capture` or `release`."""
        return await self._post(number, f"/api/payments/{payment_id}/{how}", "")

    async def _post(self, number: int, path: str, body: str) -> Reply:
        headers = {"Content-Type": "application/json"} if body else {}
        async with self._clients[number].post(path, data=body, headers=headers) as response:
            return Reply(response.status, await response.read(), response.headers.get("Idempotent-Replayed") == "true")

    async def get(self, number: int, path: str) -> dict[str, Any]:
        async with self._clients[number].get(path) as response:
            assert response.status == 200, path
            return await response.json()

    # ---- time

    def let_leases_run_out(self, customers: Sequence[str]) -> None:
        self.execute(
            "update idempotency_keys set lease_until = clock_timestamp() - interval '1 s' where state = 'processing' and customer_id = any (%s)",
            list(customers),
        )

    def let_reservations_run_out(self, payment_ids: Sequence[str]) -> None:
        self.execute(
            "update payments set reserved_until = clock_timestamp() - interval '1 s' where reservation is not null and payment_id = any (%s::uuid[])",
            list(payment_ids),
        )

    async def expire(self) -> int:
        """What the completers do once a second, now."""
        return await Reservations(self._store.payments).expire_due(100)

    # ---- the middle of things

    @contextmanager
    def gate(self, statement: str, *parameters: object) -> Iterator[Gate]:
        """Holds what the statement locks until it is told to let go."""
        with closing(psycopg2.connect(self.dsn)) as connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            yield Gate(connection.info.backend_pid, connection.rollback)

    async def waiting(self, gate: Gate, count: int) -> list[int]:
        """Waits until so many sessions stand at the gate, or behind one that does; their process ids. Others may wait for each other meanwhile."""

        async def seen() -> list[int] | None:
            pids = [pid for (pid,) in self.execute(BEHIND, gate.pid) if pid != gate.pid]
            return pids if len(pids) >= count else None

        return await eventually_async(seen)

    def carried_out(self) -> None:
        """Waits until no session is in the middle of a step any more. Batches may have come to the gate after those that were seen there."""
        eventually(lambda: not self.execute(IN_A_STEP))

    def end_steps(self) -> None:
        """Ends the sessions that are in the middle of a step, until there are none: what a dead process has sent goes on without it."""

        def none_left() -> bool:
            pids = [pid for (pid,) in self.execute(IN_A_STEP)]
            self.terminate(pids)
            return not pids

        eventually(none_left)

    def terminate(self, pids: list[int]) -> None:
        """Ends these sessions, and with them whatever they have not committed."""
        self.execute("select pg_terminate_backend(pid) from unnest(%s::int[]) u (pid)", pids)
        eventually(lambda: self.execute("select count(*) = 0 from pg_stat_activity where pid = any (%s)", pids)[0][0])

    @contextmanager
    def dozing(self, number: int) -> Iterator[None]:
        """The payments of this service do not get beyond their tools meanwhile."""
        with patience.held(self._folder / f"dozing_{number}"):
            yield

    # ---- what is stored

    def execute(self, statement: str, *parameters: object) -> list[tuple]:
        with self._database.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def finished(self, customers: Sequence[str]) -> bool:
        """Whether none of their keys is still being decided."""
        return self.execute("select count(*) = 0 from idempotency_keys where state = 'processing' and customer_id = any (%s)", list(customers))[0][0]

    async def all_claimed(self, slots: Sequence[tuple[str, str]]) -> bool:
        """Whether these keys are being decided, each under a lease that has not run out."""
        rows = self.execute(
            "select customer_id, key from idempotency_keys where state = 'processing' and lease_until > clock_timestamp() and customer_id = any (%s)",
            [customer for customer, _ in slots],
        )
        return set(slots) <= set(rows)

    def events(self, customers: Sequence[str]) -> list[tuple[str, Event]]:
        """Every event with its id, once: those that are kept (asked first) and those that were delivered. None can slip through between."""
        waiting = self.execute(
            "select event_id::text, customer_id, sequence, type, subject, coalesce(data ->> 'decision', data ->> 'reservation') "
            "from (select event_id, customer_id, sequence, type, subject, data from outbox "
            "union all select event_id, customer_id, sequence, type, subject, data from event_log) e where customer_id = any (%s)",
            list(customers),
        )
        self._read_deliveries()
        known = {**self._seen_events, **{event_id: Event(*rest) for event_id, *rest in waiting}}
        return [(event_id, event) for event_id, event in known.items() if event.customer in customers]

    def delivered(self) -> dict[str, list[int]]:
        """Each customer's sequence numbers, in the order of their first delivery."""
        self._read_deliveries()
        sequences = defaultdict(list)
        for event in self._seen_events.values():
            sequences[event.customer].append(event.sequence)
        return dict(sequences)

    def _read_deliveries(self) -> None:
        with self._events.open("rb") as file:
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read_to += len(line)
                try:
                    said = json.loads(line)
                except ValueError:
                    continue
                data = said["data"]
                told = data.get("decision") or data["reservation"]
                event = Event(data["customerId"], int(said["sequence"]), said["type"], said["subject"], told)
                assert self._seen_events.setdefault(said["id"], event) == event, "an event that is delivered again is the same"

    def facts(self, customers: Sequence[str]) -> Facts:
        """All that is stored about these customers."""
        mine = list(customers)
        entries: dict = defaultdict(Counter)
        for customer, currency, *entry in self.execute(
            "select customer_id, currency, kind::text, available_change, reserved_change, payment_id::text from ledger_entries "
            "where customer_id = any (%s)",
            mine,
        ):
            entries[customer, currency][tuple(entry)] += 1
        events: dict = defaultdict(Counter)
        sequences: dict = defaultdict(list)
        for _, event in self.events(customers):
            events[event.customer][event.type, event.subject, event.told] += 1
            sequences[event.customer].append(event.sequence)
        payments = self.execute(
            "select payment_id::text, customer_id, key, p.payee_id, p.amount_minor, p.currency, p.decision::text, p.reservation::text, p.answer "
            "from payments p left join idempotency_keys k using (customer_id, payment_id) where customer_id = any (%s)",
            mine,
        )
        return Facts(
            balances=self._by_place("select customer_id, currency, available, reserved from accounts where customer_id = any (%s)", mine),
            entries=dict(entries),
            keys=self._by_place("select customer_id, key, state::text, payment_id::text from idempotency_keys where customer_id = any (%s)", mine),
            payments={
                payment_id: (Asked(*asked), decision, reservation, answer.encode()) for payment_id, *asked, decision, reservation, answer in payments
            },
            events=dict(events),
            sequences={customer: sorted(numbers) for customer, numbers in sequences.items()},
            cases=Counter(payment_id for (payment_id,) in self.execute("select payment_id::text from cases where customer_id = any (%s)", mine)),
            attempts=self._by_place(
                "select customer_id, currency, (windows_total(counts, total_count, tick, at))[3], "
                "(windows_total(amounts, total_amount, tick, at))[3] from attempts, window_tick(clock_timestamp()) at where customer_id = any (%s)",
                mine,
            ),
            spending=self._by_place(
                "select customer_id, currency, allowed_count, allowed_sum::bigint from accounts where allowed_count > 0 and customer_id = any (%s)",
                mine,
            ),
            usual=self._by_place(
                "select customer_id, currency, usual_count from accounts where usual_count > 0 and customer_id = any (%s)",
                mine,
            ),
            failed=dict(self.execute("select customer_id, failed_count from customers where failed_count > 0 and customer_id = any (%s)", mine)),
            payees={
                (customer, payee)
                for customer, payee in self.execute("select customer_id, payee_id from known_payees where customer_id = any (%s)", mine)
            },
        )

    def _by_place(self, statement: str, customers: list[str]) -> dict:
        return {(row[0], row[1]): tuple(row[2:]) for row in self.execute(statement, customers)}


async def _made(make: Callable[[], Result]) -> Result:
    """What has to be made while the loop runs."""
    return make()


async def at_once(*requests) -> list:
    """All of them side by side; if one fails none is left behind."""
    tasks = [asyncio.ensure_future(request) for request in requests]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def in_rows(replies: list[Reply], payments: int) -> list[list[Reply]]:
    """The answers to each payment, out of rounds of all payments."""
    return [replies[number::payments] for number in range(payments)]
