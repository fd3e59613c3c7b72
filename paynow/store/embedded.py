"""A PostgreSQL of our own, for development, demonstrations and tests: started when a program needs it, gone when none does any more.

Who owns it. Each program that uses the server is a holder: it keeps a shared lock on `holders.lock`. The server itself belongs to none of
them but to a keeper (`keeper.py`), a small process in a session of its own that waits for the exclusive lock on the same file. It gets it when
the last holder is gone, by Ctrl-C, `kill -9` or otherwise, since the kernel drops the locks of the dead; then it shuts PostgreSQL down. So a
short command that started the server never takes it from a `serve` that came later, and nothing is left behind. If the keeper itself is
killed, Linux sends PostgreSQL the signal for a fast shutdown.

Who is alive. `running.lock` is held by whoever starts the server, then by the keeper, PostgreSQL and all its children, who inherit it. It is
free only when none of them lives, whatever `postmaster.pid` says: so no process id out of a file is ever believed or signalled, two starters
cannot both start, and a new server waits for the last of an old one.

The server listens on a Unix socket in a private folder, on no network, and asks for no password. It is not watched over: if PostgreSQL is
killed, the next `start` brings it back. Its log holds no ERROR lines, since their text may carry the values that caused them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import psycopg2
import psycopg2.errors
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, make_dsn

from paynow.store import embedded_place, file_lock
from paynow.store.embedded_place import MOVED_ROOT, EmbeddedServerFailed, Place, as_user

DATABASE = "paynow"
LOG_MAX_BYTES = 1_000_000
LOG_TAIL_MAX_BYTES = 2_000
POLL_S = 0.01
STOP_WITHIN_S = 30.0
SHARED_BUFFERS_MB_MIN, SHARED_BUFFERS_MB_MAX = 128, 2048
MEMORY_SHARE = 8
"""Of the machine's memory one part in so many is PostgreSQL's to keep pages in."""


def _shared_buffers_mb() -> int:
    """Pages are only taken from the machine as they are needed."""
    memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return min(max(memory_mb // MEMORY_SHARE, SHARED_BUFFERS_MB_MIN), SHARED_BUFFERS_MB_MAX)


SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": "5432",
    "max_connections": "100",
    # Pages that change again and again are written out seldom, and each whole page enters the log once between two checkpoints.
    "shared_buffers": f"{_shared_buffers_mb()}MB",
    "checkpoint_timeout": "15min",
    "max_wal_size": "2GB",
    "client_connection_check_interval": "2s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}
"""Beside these, PostgreSQL's own defaults: fsync, full_page_writes and synchronous_commit are on."""


@dataclass(slots=True)
class EmbeddedServer:
    """A hold on a running server, let go by `stop`, by leaving the `with`, or by the end of this process."""

    dsn: str
    """libpq keywords: the socket's folder, the superuser `paynow`, the database `paynow`."""
    started: bool
    """Whether this call started it; False: another program had it running."""
    data_dir: Path
    notice: str | None
    """What the program should tell its user, or None."""
    place: Place = field(repr=False)
    holding: int | None = field(repr=False)

    def stop(self) -> None:
        """Lets the server go, and if nobody else holds it waits until it has shut down. May be called again."""
        if self.holding is None:
            return
        os.close(self.holding)
        self.holding = None
        deadline = time.monotonic() + STOP_WITHIN_S
        while not file_lock.is_free(self.place.running_lock) and not file_lock.is_shared(self.place.holders_lock) and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def start(
    directory: Path,
    *,
    settings: Mapping[str, str] | None = None,
    bin_dir: Path | None = None,
    moved_root: Path = MOVED_ROOT,
    ready_within_s: float = 60.0,
) -> EmbeddedServer:
    """The server whose data lie in `directory`: attached to if it runs, else started, its first time included.

    `settings` go over PostgreSQL's configuration and `bin_dir` names its programs; a server that runs already keeps its own.
    Raises `EmbeddedServerFailed` with the reason if it does not answer within `ready_within_s` seconds, recovery included.
    """
    place = embedded_place.choose_place(directory, moved_root)
    deadline = time.monotonic() + ready_within_s
    try:
        holding = file_lock.open_lock(place.holders_lock)
    except OSError as error:
        raise EmbeddedServerFailed(f"PostgreSQL's folder cannot be used: {error}") from error
    try:
        _hold(holding, deadline)
        started = _attach_or_launch(place, {**SETTINGS, **(settings or {})}, bin_dir, deadline)
    except BaseException:
        os.close(holding)
        raise
    return EmbeddedServer(_dsn(place, DATABASE), started, place.data_dir, place.notice, place, holding)


def _hold(holding: int, deadline: float) -> None:
    """Takes the shared lock; while a keeper shuts the server down, it has the exclusive one."""
    while not file_lock.takes(holding, file_lock.SHARED):
        if time.monotonic() > deadline:
            raise EmbeddedServerFailed("PostgreSQL is being shut down by its last user and does not come to an end.")
        time.sleep(POLL_S)


def _attach_or_launch(place: Place, settings: Mapping[str, str], bin_dir: Path | None, deadline: float) -> bool:
    """Returns once the server answers: True if it was launched here."""
    launched = False
    log_start_bytes = 0
    while not _answers(place):
        running = file_lock.open_lock(place.running_lock)
        try:
            if file_lock.takes(running, file_lock.EXCLUSIVE) and not _started_by_hand(place):
                if launched:
                    raise EmbeddedServerFailed(f"PostgreSQL stopped before it answered.\n{_log_tail(place, log_start_bytes)}")
                log_start_bytes = _fresh_log_bytes(place.log)
                _launch(place, settings, embedded_place.find_programs(bin_dir), running)
                launched = True
        finally:
            os.close(running)
        if time.monotonic() > deadline:
            raise EmbeddedServerFailed(f"PostgreSQL did not answer in time.\n{_log_tail(place, log_start_bytes)}")
        time.sleep(POLL_S)
    return launched


def _launch(place: Place, settings: Mapping[str, str], programs: Path, running: int) -> None:
    """Makes the data if there are none and leaves a keeper with PostgreSQL behind. `running` is the running lock, held."""
    try:
        programs = embedded_place.reachable_programs(programs, place)
        if not place.data_dir.exists():
            _initialise(place, programs, running, durable=settings.get("fsync") != "off")
        _forget_dead_postmaster(place)
        embedded_place.make_private(place.socket_folder, place.user)
        command = [str(programs / "postgres"), "-D", str(place.data_dir)]
        for name, value in {"unix_socket_directories": str(place.socket_folder), **settings}.items():
            command += ["-c", f"{name}={value}"]
        _run_keeper(place, command, running)
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedServerFailed(f"PostgreSQL cannot be started: {error}\n{_log_tail(place, 0)}") from error


def _initialise(place: Place, programs: Path, running: int, *, durable: bool) -> None:
    """Makes a database cluster beside its place and renames it, so that an interrupted one is never taken for whole."""
    unfinished = place.home / "postgres.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    embedded_place.make_private(unfinished, place.user)
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if int(embedded_place.version(programs).split(".")[0]) >= 17 else []
    command = [programs / "initdb", "-D", unfinished, "--username=paynow", "--auth=trust", "--encoding=UTF8", "--locale=C", *locale]
    # Who commits into a new file of the log waits until it is filled with zeros and flushed: 80 ms for the 16 MB that are usual.
    command += ["--wal-segsize=1", "--data-checksums", "--no-instructions", *([] if durable else ["--no-sync"])]
    with place.log.open("ab") as log:
        _run(command, running, log, **as_user(place.user))
    unfinished.rename(place.data_dir)


def _started_by_hand(place: Place) -> bool:
    """Whether the process that `postmaster.pid` names works in the data folder though none of ours lives: somebody started a server there."""
    try:
        pid = (place.data_dir / "postmaster.pid").read_text().split()[0]
        return Path(f"/proc/{pid}/cwd").readlink() == place.data_dir
    except (OSError, IndexError):
        return False


def _forget_dead_postmaster(place: Place) -> None:
    """Removes the files in which a server that died left its process id: the number may be another process's by now."""
    for left in (place.data_dir / "postmaster.pid", place.socket_folder / ".s.PGSQL.5432.lock"):
        left.unlink(missing_ok=True)


def _run_keeper(place: Place, command: list[str], running: int) -> None:
    task = {
        "command": command,
        "holders_lock": str(place.holders_lock),
        "running": running,
        "user": as_user(place.user),
        "socket_folder": str(place.socket_folder),
    }
    keeper = Path(__file__).with_name("keeper.py")
    with place.log.open("ab") as log:
        # A session of its own: the terminal's Ctrl-C is for the program, which still has requests to finish.
        _run([sys.executable, "-I", "-S", keeper, json.dumps(task)], running, log, start_new_session=True)


def _run(command: list[str | Path], running: int, log: IO[bytes], **options: Any) -> None:
    """Runs a program that inherits the running lock and nothing else of ours: the environment holds secrets, and PostgreSQL reads some of it."""
    environment = {"PATH": os.defpath, "LC_ALL": "C"}
    subprocess.run(command, check=True, pass_fds=(running,), cwd="/", env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)


def _answers(place: Place) -> bool:
    """Whether the server takes connections; sees to it that it has our database."""
    try:
        with closing(psycopg2.connect(_dsn(place, "postgres"), connect_timeout=2)) as connection, connection.cursor() as cursor:
            connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
            cursor.execute("select 1 from pg_database where datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                with suppress(psycopg2.errors.DuplicateDatabase, psycopg2.errors.UniqueViolation):
                    cursor.execute(f"create database {DATABASE}")
    except psycopg2.OperationalError:
        return False
    return True


def _dsn(place: Place, database: str) -> str:
    return make_dsn(host=str(place.socket_folder), port=5432, user="paynow", dbname=database)


def _fresh_log_bytes(log: Path) -> int:
    """Sets a log aside that has grown large, one of them at most; the length of what is there now."""
    if log.exists() and log.stat().st_size > LOG_MAX_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))
    return log.stat().st_size if log.exists() else 0


def _log_tail(place: Place, start_bytes: int) -> str:
    """The last lines that the log of this start has, to be shown with the failure."""
    try:
        text = place.log.read_bytes()[start_bytes:]
    except OSError:
        return ""
    return text[-LOG_TAIL_MAX_BYTES:].decode(errors="replace").strip()
