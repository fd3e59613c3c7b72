"""What every command does when it is used wrongly, cannot reach its database, or nobody reads what it says: one clear line, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from click.testing import CliRunner

from commands import Ended, paynow
from database import way_to
from paynow.cli import main

ON_THE_SCHEMA = [
    ("keys", "list"),
    ("keys", "create", "--name", "n", "--scopes", "all"),
    ("keys", "revoke", "abc"),
    ("accounts", "import", "accounts.csv"),
    ("lists", "show"),
    ("lists", "add", "customer", "c_1", "block", "--reason", "r"),
    ("lists", "remove", "customer", "c_1", "block"),
    ("policy", "list"),
    ("policy", "show"),
    ("policy", "activate"),
    ("explain", str(UUID(int=1))),
    ("audit",),
    ("serve", "--port", "0"),
]
ON_THE_DATABASE = [*ON_THE_SCHEMA, ("migrate",), ("migrate", "--status")]
CANARY = "canary-password"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "accounts.csv").write_text("customer_id,currency,balance\n")
    return tmp_path


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """As `paynow` does, but within this process where that can be: there are many commands, and a process takes a while to start."""

    def run(dsn: str | None, *command: str, **environ: str) -> Ended:
        if command[0] == "serve":  # it would configure this process's log
            return paynow(place, dsn, *command, **environ)
        monkeypatch.chdir(place)
        unset = {name: None for name in os.environ if name.startswith("PAYNOW_")}
        way = way_to(dsn) if dsn else {"DATABASE_URL": None}
        ended = CliRunner(env={**unset, **way, "LOG_HASH_KEY": "the-hash-key-of-the-tests", **environ}).invoke(main, command)
        assert ended.exception is None or isinstance(ended.exception, SystemExit)
        return Ended(ended.exit_code, ended.stdout, ended.stderr)

    return run


@pytest.mark.parametrize("command", ON_THE_DATABASE, ids=" ".join)
def test_a_server_that_is_not_there_is_one_line(command: tuple[str, ...], run: Callable[..., Ended]) -> None:
    ended = run(f"postgresql://u:{CANARY}@127.0.0.1:1/x", *command)
    assert (ended.code, ended.out) == (1, "")
    (line,) = ended.err.splitlines()
    assert line.startswith("paynow: PostgreSQL cannot be reached: ")
    assert CANARY not in line


@pytest.mark.parametrize("command", ON_THE_DATABASE, ids=" ".join)
def test_an_address_that_cannot_be_read_is_not_repeated(command: tuple[str, ...], run: Callable[..., Ended]) -> None:
    ended = run(f"postgres//u:{CANARY}@127.0.0.1:1/x", *command)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "DATABASE_URL: cannot be read: expected postgresql://user:password@host:5432/database\n"


@pytest.mark.parametrize("command", ON_THE_SCHEMA, ids=" ".join)
def test_a_database_without_the_schema_is_refused_with_what_to_do(command: tuple[str, ...], run: Callable[..., Ended], empty_database: str) -> None:
    ended = run(empty_database, *command)
    assert (ended.code, ended.out) == (1, "")
    (line,) = ended.err.splitlines()
    assert line.startswith("paynow: the database lacks 0001_foundation, ")
    assert line.endswith(": run paynow migrate")


@pytest.mark.parametrize(
    "command", [*ON_THE_DATABASE, ("config", "show"), ("config", "check"), ("plugins", "list"), ("policy", "check")], ids=" ".join
)
def test_a_wrong_configuration_is_told_a_fault_a_line(command: tuple[str, ...], run: Callable[..., Ended]) -> None:
    ended = run(None, *command, PAYNOW_SERVER__PORT="x", PAYNOW_AGENT__DEADLIN_MS="1")
    assert (ended.code, ended.out) == (2, "")
    assert sorted(line.split(": ")[0] for line in ended.err.splitlines()) == [
        "environment PAYNOW_AGENT__DEADLIN_MS",
        "environment PAYNOW_SERVER__PORT",
    ]


def test_the_file_that_is_named_is_the_one_that_is_read(place: Path) -> None:
    (place / "ours.toml").write_text("[server]\nport = 'x'\n")
    assert paynow(place, None, "keys", "list", "--config", "ours.toml").err.startswith("ours.toml:2: server.port: ")
    assert "ours.toml:2: server.port: " in paynow(place, None, "keys", "list", PAYNOW_CONFIG="ours.toml").err


@pytest.mark.parametrize(("typed", "meant"), [("key", "keys"), ("Serve", "serve"), ("migrations", "migrate")])
def test_a_command_that_does_not_exist_is_refused_with_the_nearest(typed: str, meant: str, place: Path) -> None:
    ended = paynow(place, None, typed)
    assert ended.code == 2
    assert f"there is no command '{typed}'; did you mean {meant}?" in ended.err


def test_the_version_is_told(place: Path) -> None:
    assert paynow(place, None, "--version").out.startswith("paynow, version ")


@pytest.mark.parametrize("command", [("config", "show"), ("policy", "check", "--json")], ids=" ".join)
def test_a_reader_who_leaves_early_is_no_traceback(command: tuple[str, ...], place: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run([sys.executable, "-m", "paynow", *command], cwd=place, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(write)
    assert ended.stderr == ""


def test_the_help_imports_nothing_heavy(place: Path) -> None:
    """It has to answer at once."""
    code = "import sys\nfrom paynow.cli import main\nmain(['--help'], standalone_mode=False)\nsys.exit(' '.join(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False)
    assert "Serve payment decisions" in ended.stdout
    loaded = {name.partition(".")[0] for name in ended.stderr.split()}
    assert loaded & {"aiohttp", "aiopg", "psycopg2", "marshmallow", "loguru", "rich", "cel_expr_python", "pluggy"} == set()
