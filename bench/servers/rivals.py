"""Who competes, how each is started, and what each needs in its database before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.loads import API_KEY
from bench.processes import environment, free_port, serving
from bench.servers.policy import raised
from bench.stage import Stage
from paynow.resources import folder

HASH_KEY = "the-hash-key-of-the-bench"
BALANCE = "10000000000.00"
CONFIGURATION = """
[policy]
file = "policy.toml"

[rate_limit]
customer = "1000000/s"
burst = 1000000
"""
"""The customer's limit is asked of every payment, and never reached."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A rival at work."""

    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Rival:
    """A server to be measured. `database` is its own, None: it has none; `module` and `arguments` start it with Python.

    `stored` counts the payments that it has stored; `counts` tells whether it has PayNow's metrics.
    """

    name: str
    title: str
    module: tuple[str, ...]
    ready: str
    database: str | None = None
    stored: str | None = None
    counts: bool = False
    prepare: Callable[[Stage, str, int], None] | None = None
    """Fills the rival's empty database for so many customers."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """What it finds in its environment beside what all find."""


def paynow_database(stage: Stage, database: str, customers: int) -> None:
    """The schema, and an account with much money for each customer, through PayNow's own door."""
    write_configuration(stage.folder)
    accounts = stage.folder / "accounts.csv"
    lines = (f"c_{number},USD,{BALANCE}\n" for number in range(customers))
    accounts.write_text("customer_id,currency,balance\n" + "".join(lines))
    command(stage, database, "migrate")
    command(stage, database, "accounts", "import", "accounts.csv")


def usual_database(stage: Stage, database: str, customers: int) -> None:
    """Tables and accounts of the FastAPI service."""
    stage.run(database, Path(__file__).with_name("usual.sql").read_text())
    stage.run(
        database, "insert into accounts (customer_id, currency, available) select 'c_' || n, 'USD', 1e12 from generate_series(0, %s) n", customers - 1
    )


def write_configuration(place: Path) -> None:
    """The configuration and the policy of the bench."""
    (place / "bench.toml").write_text(CONFIGURATION)
    (place / "policy.toml").write_text(raised((folder("config") / "policy.toml").read_text()))


def command(stage: Stage, database: str, *arguments: str) -> str:
    """Runs `paynow` on a database; what it wrote. Raises `RuntimeError` with its words if it fails."""
    ended = subprocess.run(
        [sys.executable, "-m", "paynow", *arguments],
        cwd=stage.folder,
        env=paynow_environment(stage, database),
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"paynow {' '.join(arguments)} on {database}:\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def paynow_environment(stage: Stage, database: str) -> dict[str, str]:
    """What a PayNow of the bench finds in its environment."""
    return environment(DATABASE_URL=stage.dsn(database), API_KEY=API_KEY, LOG_HASH_KEY=HASH_KEY, PAYNOW_CONFIG=str(stage.folder / "bench.toml"))


@contextmanager
def at_work(rival: Rival, stage: Stage) -> Iterator[Serving]:
    """The rival, serving, for the length of the block. Raises `DidNotServe`."""
    port = free_port()
    if rival.counts:
        environ = {**paynow_environment(stage, rival.database or ""), **rival.environ}
    else:
        environ = environment(API_KEY=API_KEY, DATABASE_URL=stage.url(rival.database) if rival.database else "")
    arguments = [argument.format(port=port) for argument in rival.module]
    with serving(
        [sys.executable, "-m", *arguments], port=port, ready=rival.ready, folder=stage.folder, log=f"{rival.name}.log", environ=environ
    ) as process:
        yield Serving(port, process.pid)


def _paynow(name: str, title: str, *module: str) -> Rival:
    return Rival(name, title, module, ready="/readyz", database=name, stored="select count(*) from payments", counts=True, prepare=paynow_database)


PAYNOW = _paynow("paynow", "PayNow", "paynow", "serve", "--port", "{port}")
PAYNOW_2 = _paynow("paynow_2", "PayNow, 2 workers", "paynow", "serve", "--port", "{port}", "--workers", "2")
FLOOR = Rival("floor", "Floor: bare aiohttp, parse and schema only", ("bench.servers.floor", "{port}"), ready="/")
UNBATCHED = _paynow("unbatched", "PayNow without batching (aiopg)", "bench.servers.unbatched", "serve", "--port", "{port}")
USUAL = Rival(
    "usual",
    "FastAPI + asyncpg, a transaction a payment",
    ("uvicorn", "bench.servers.usual:app", "--host", "127.0.0.1", "--port", "{port}"),
    ready="/openapi.json",
    database="usual",
    stored="select count(*) from payments",
    prepare=usual_database,
)
SERVERS = (PAYNOW, PAYNOW_2, FLOOR, UNBATCHED, USUAL)
