"""`paynow backtest` over a past that PayNow's own code wrote: what it counts is what SQL counts, and what each decision says by itself."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from psycopg2.extensions import make_dsn

from bench.measures.processes import members, parse_stat
from bench.past import CANDIDATE, copy_decisions, matrix_in_sql, matrix_of
from commands import paynow
from database import execute
from paynow.resources import folder
from waiting import eventually

DECISIONS = 9_000
FEW = 1_200
COMMAND = [sys.executable, "-m", "paynow", "backtest", "--policy", "candidate.toml", "--workers", "2"]
POLICY = (folder("config") / "policy.toml").read_text(encoding="utf-8")


@contextmanager
def decided(server_dsn: str, template: str, name: str, decisions: int) -> Iterator[str]:
    """A database with so many decisions of a week; only read by these tests."""
    execute(server_dsn, f"create database {name} template {template}")
    dsn = make_dsn(server_dsn, dbname=name)
    copy_decisions(dsn, decisions, POLICY)
    yield dsn
    execute(server_dsn, f"drop database {name} with (force)")


@pytest.fixture(scope="module")
def past(postgres_server, template_database: str, database_numbers) -> Iterator[str]:
    """Three slices, for two processes."""
    with decided(postgres_server.dsn, template_database, f"test_{next(database_numbers)}", DECISIONS) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def short_past(postgres_server, template_database: str, database_numbers) -> Iterator[str]:
    """One slice, which one process judges in a moment."""
    with decided(postgres_server.dsn, template_database, f"test_{next(database_numbers)}", FEW) as dsn:
        yield dsn


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    file = tmp_path / "candidate.toml"
    file.write_text(CANDIDATE)
    return tmp_path


def environ(dsn: str) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": dsn, "LOG_HASH_KEY": "the-hash-key-of-the-tests"}


def report(where: Path, dsn: str, *arguments: str) -> dict:
    return paynow(where, dsn, "backtest", "--policy", "candidate.toml", "--json", *arguments).json()


def test_the_matrix_is_the_one_that_sql_counts(past: str, candidate: Path) -> None:
    found = report(candidate, past, "--workers", "2")
    assert found["decisions"] == DECISIONS
    assert found["workers"] == 2
    assert matrix_of(found) == matrix_in_sql(past)
    changed = {(row["recorded"], row["candidate"]): row["decisions"] for row in found["matrix"]}
    assert min(changed["allow", "review"], changed["review", "allow"], changed["block", "block"]) > 50


def test_a_policy_against_its_own_past_changes_nothing_and_fires_the_same_rules(short_past: str, candidate: Path) -> None:
    """Fallbacks of tools that failed and settles that found the money gone are part of the past."""
    (candidate / "candidate.toml").write_text(POLICY)
    found = report(candidate, short_past)
    assert (found["changed"], found["unsure"], found["unreadable"]) == (0, 0, 0)
    assert [rule["candidate"] for rule in found["rules"]] == [rule["recorded"] for rule in found["rules"]]
    assert sum(rule["candidate"] for rule in found["rules"]) > 15
    assert execute(short_past, "select count(*) > 4 from payments where answer like '%overruled%'") == [(True,)]


def test_however_the_past_is_cut_the_report_is_the_same(past: str, candidate: Path) -> None:
    timed = ("seconds", "perSecond", "workers")
    one, several = ({name: value for name, value in report(candidate, past, "--workers", workers).items() if name not in timed} for workers in "13")
    assert one == several


def test_a_window_of_time_holds_the_payments_that_came_in_then(short_past: str, candidate: Path) -> None:
    day = (datetime.now(UTC) - timedelta(days=3)).replace(hour=0, minute=0, second=0, microsecond=0)
    counted = "select count(*) from payments where payment_id >= %s::uuid and payment_id < %s::uuid"
    (first,), (beyond,) = (
        execute(
            short_past, "select (lpad(to_hex((extract(epoch from %s::timestamptz) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid::text", moment
        )[0]
        for moment in (day, day + timedelta(days=1))
    )
    expected = execute(short_past, counted, first, beyond)[0][0]
    assert 130 < expected < 220
    begin, end = day.date().isoformat(), (day + timedelta(days=1)).isoformat()
    assert report(candidate, short_past, "--from", begin, "--to", end)["decisions"] == expected
    assert report(candidate, short_past, "--from", end)["decisions"] + report(candidate, short_past, "--to", end)["decisions"] == FEW
    assert report(candidate, short_past, "--since", "8d")["decisions"] == FEW
    assert 0 < report(candidate, short_past, "--since", "1d")["decisions"] < FEW // 5
    assert "there are no decisions in that time" in paynow(candidate, short_past, "backtest", "--policy", "candidate.toml", "--to", "2020-01-01").out


def test_a_sample_is_the_same_each_time_and_no_larger_than_the_past(past: str, candidate: Path) -> None:
    first, again = (report(candidate, past, "--sample", "5000", "--workers", "2") for _ in range(2))
    assert first["decisions"] == 5_000
    assert first["matrix"] == again["matrix"]
    whole = report(candidate, past, "--sample", "1000000")
    assert whole["decisions"] == DECISIONS
    changed = whole["changed"] / DECISIONS
    assert first["changed"] / 5_000 == pytest.approx(changed, rel=0.25)


def test_every_change_is_exported_and_the_largest_are_shown(past: str, candidate: Path) -> None:
    found = report(candidate, past, "--export", "changes.csv", "--top", "3", "--workers", "2")
    with (candidate / "changes.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["payment_id"] for row in rows] == sorted(row["payment_id"] for row in rows)
    assert Counter((row["recorded"], row["candidate"]) for row in rows) == Counter(
        {(row["recorded"], row["candidate"]): row["decisions"] for row in found["matrix"] if row["recorded"] != row["candidate"] and row["decisions"]}
    )
    for currency in ("USD", "JPY"):
        amounts = sorted((float(row["amount"]) for row in rows if row["currency"] == currency), reverse=True)
        assert [float(change["amount"]) for change in found["top"] if change["currency"] == currency] == amounts[:3]
    stored = dict(execute(past, "select payment_id::text, decision::text || ' ' || customer_id || ' ' || currency from payments"))
    assert all(stored[row["payment_id"]] == f"{row['recorded']} {row['customer_id']} {row['currency']}" for row in rows)
    assert [path.name for path in candidate.iterdir() if "unfinished" in path.name] == []


def test_parquet_holds_the_same_as_csv(short_past: str, candidate: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    for file in ("changes.csv", "changes.parquet"):
        report(candidate, short_past, "--export", file)
    with (candidate / "changes.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    table = parquet.read_table(candidate / "changes.parquet").to_pylist()
    assert [{name: str(value).lower() if isinstance(value, bool) else value or "" for name, value in row.items()} for row in table] == rows


def test_labels_of_a_file_give_precision_and_recall(short_past: str, candidate: Path) -> None:
    """Labels by chance; what they come to is counted here from the stored verdicts and the changes."""
    stored = execute(short_past, "select payment_id::text, decision::text from payments order by payment_id")
    labels = ("confirmed_fraud", "false_positive", "unclear")
    label_of = {payment_id: labels[number % 3] for number, (payment_id, _) in enumerate(stored[::5])}
    (candidate / "labels.csv").write_text("payment_id,label\n" + "".join(f"{payment_id},{label}\n" for payment_id, label in label_of.items()))
    found = report(candidate, short_past, "--labels", "labels.csv", "--export", "changes.csv")
    with (candidate / "changes.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert all(row["label"] == label_of.get(row["payment_id"], "") for row in rows)
    recorded = dict(stored)
    verdicts = {"recorded": recorded, "candidate": {**recorded, **{row["payment_id"]: row["candidate"] for row in rows}}}
    assert found["labels"]["decisions"] == dict(Counter(label_of.values()))
    assert len(found["labels"]["judged"]) == 4
    for judged in found["labels"]["judged"]:
        stops = {"review", "block"} if judged["caughtBy"] == "review or block" else {"block"}
        caught = Counter(label for payment_id, label in label_of.items() if verdicts[judged["policy"]][payment_id] in stops)
        fraud = Counter(label_of.values())["confirmed_fraud"]
        assert judged["fraudCaught"] == caught["confirmed_fraud"] > 0
        assert judged["recall"] == round(caught["confirmed_fraud"] / fraud, 4)
        assert judged["precision"] == round(caught["confirmed_fraud"] / (caught["confirmed_fraud"] + caught["false_positive"]), 4)
    assert "precision" in paynow(candidate, short_past, "backtest", "--policy", "candidate.toml", "--labels", "labels.csv").out


def test_labels_of_cases_are_taken_where_cases_have_them(database: str, candidate: Path) -> None:
    copy_decisions(database, 300, POLICY)
    assert report(candidate, database)["labels"] == {"known": 0, "decisions": {}, "judged": []}
    execute(
        database,
        """insert into cases (customer_id, case_id, payment_id, amount_minor, currency, reasons, label)
        select customer_id, gen_random_uuid(), payment_id, amount_minor, currency, '[]', 'confirmed_fraud' from payments where decision = 'review'""",
    )
    found = report(candidate, database)
    assert found["labels"]["decisions"] == {"confirmed_fraud": execute(database, "select count(*) from payments where decision = 'review'")[0][0]}
    assert found["labels"]["judged"][0]["recall"] == 1.0


def test_what_was_not_recorded_is_unknown_and_counted_as_unsure(database: str, candidate: Path) -> None:
    """Half of the decisions were made without the tool, some with another kind of field; those whose tool failed are not unsure but degraded."""
    copy_decisions(database, 400, POLICY)
    lacking = 'select payment_id from payments where answer like \'%"getRiskSignals","attempt":1,"status":"ok"%\' order by payment_id limit 200'
    execute(database, f"update payments set answer = replace(answer, '\"attempts_24h\":', '\"attempts_day\":') where payment_id in ({lacking})")
    execute(database, f"update payments set answer = replace(answer, '\"payee_known\":true', '\"payee_known\":1') where payment_id in ({lacking})")
    (candidate / "candidate.toml").write_text(
        '[[rule]]\nid = "busy"\nwhen = "getRiskSignals.attempts_24h > 100000"\nthen = "block"\nmessage = "m"\n'
        '[[rule]]\nid = "known"\nwhen = "getRiskSignals.payee_known && payment.amount_minor > 900000000"\nthen = "block"\nmessage = "m"\n'
    )
    found = report(candidate, database)
    assert found["unsure"] == 200
    assert {(one["rule"], one["name"]): one["decisions"] for one in found["notRecorded"]}["busy", "getRiskSignals.attempts_24h"] == 200
    failed = execute(database, 'select count(*) from payments where answer like \'%"fallback","tool":"getRiskSignals"%\'')[0][0]
    assert {rule["id"]: rule["unknown"] for rule in found["rules"]}["busy"] == 200 + failed
    assert sum(row["unsure"] for row in found["matrix"] if row["candidate"] == "allow") == 0
    shown = paynow(candidate, database, "backtest", "--policy", "candidate.toml").out
    assert "unsure: 200 records lack what the candidate reads; the rules that need it are unknown" in shown


def test_a_signal_that_is_newer_than_a_decision_is_unknown(database: str, candidate: Path) -> None:
    """Of decisions that were made before there was the signal nobody can tell what the rule would have said; the other rules are told."""
    copy_decisions(database, 200, POLICY)
    newer = '\'"failed_attempts_24h":.*"daily_limit_share":0.0\''
    execute(database, f"update payments set answer = replace(regexp_replace(answer, {newer}, ''), ',}}', '}}')")
    (candidate / "candidate.toml").write_text(
        '[[rule]]\nid = "many_customers"\nwhen = "getRiskSignals.payee_customers_24h > 100000"\nthen = "block"\nmessage = "m"\n'
        '[[rule]]\nid = "busy"\nwhen = "getRiskSignals.attempts_24h > 100000"\nthen = "block"\nmessage = "m"\n'
    )
    found = report(candidate, database)
    answered = execute(database, 'select count(*) from payments where answer not like \'%"fallback","tool":"getRiskSignals"%\'')[0][0]
    assert found["unreadable"] == 0
    assert found["unsure"] == answered
    assert [(one["rule"], one["name"], one["decisions"]) for one in found["notRecorded"]] == [
        ("many_customers", "getRiskSignals.payee_customers_24h", answered)
    ]
    unknown = {rule["id"]: rule["unknown"] for rule in found["rules"]}
    assert (unknown["many_customers"], unknown["busy"]) == (200, 200 - answered)
    assert sum(row["decisions"] for row in found["matrix"] if row["candidate"] == "allow") == 0, "what cannot be told is looked at by a person"


@pytest.mark.parametrize("answer", ["'{}'", """replace(answer, '"decidedAt":', '"decided":')"""], ids=["empty", "without a time"])
def test_an_answer_that_cannot_be_read_is_counted_and_is_a_fault(database: str, candidate: Path, answer: str) -> None:
    """Whatever of it is missing, and also where it is read only of a payment that would change: all of these would."""
    copy_decisions(database, 50, POLICY)
    (candidate / "candidate.toml").write_text('[[rule]]\nid = "all"\nwhen = "payment.amount_minor > 0"\nthen = "block"\nmessage = "m"\n')
    execute(database, f"update payments set answer = {answer} where payment_id = (select payment_id from payments where decision = 'allow' limit 1)")
    ended = paynow(candidate, database, "backtest", "--policy", "candidate.toml", "--json")
    assert ended.code == 1
    found = json.loads(ended.out)
    assert (found["decisions"], found["unreadable"], sum(row["decisions"] for row in found["matrix"])) == (50, 1, 49)
    assert "1 stored answers cannot be read" in ended.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "7d", "--to", "2026-11-01"), "--since goes up to now"),
        (("--from", "2026-11-02", "--to", "2026-11-01"), "--from has to be before --to"),
        (("--from", "yesterday"), "expected a moment like 2026-11-01"),
        (("--export", "changes.xlsx"), "must end in .csv or .parquet"),
        (("--export", "nowhere/changes.csv"), "there is no such folder"),
        (("--labels", "nowhere.csv"), "nowhere.csv"),
        (("--labels", "labels.csv"), "labels.csv:2: payment_id must be a payment's id; labels.csv:3: label must be one of confirmed_fraud"),
        (("--policy", "wrong.toml"), "wrong.toml:3: rule r: unknown name `getRiskSignals.attempts`"),
        (("--policy", "nowhere.toml"), "cannot be read"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_read(database: str, candidate: Path, arguments: tuple[str, ...], said: str) -> None:
    (candidate / "labels.csv").write_text("payment_id,label\nx,unclear\n01a20bf6-c9a7-79ed-8db1-4cecae6e2ceb,good\n")
    (candidate / "wrong.toml").write_text('[[rule]]\nid = "r"\nwhen = "getRiskSignals.attempts > 1"\nthen = "block"\nmessage = "m"\n')
    ended = paynow(candidate, database, "backtest", "--policy", "candidate.toml", *arguments)
    assert ended.code == 2
    assert said in ended.err


def test_without_pyarrow_parquet_is_refused_with_what_to_do(database: str, candidate: Path) -> None:
    blocked = candidate / "blocked" / "pyarrow"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError\n")
    ended = paynow(candidate, database, "backtest", "--policy", "candidate.toml", "--export", "changes.parquet", PYTHONPATH=str(blocked.parent))
    assert ended.code == 2
    assert "pip install 'paynow[parquet]'" in ended.err


def test_a_lost_connection_ends_it_in_one_line(past: str, candidate: Path) -> None:
    """Every session of the command is ended as soon as it shows; whichever is hit says so."""
    with subprocess.Popen([*COMMAND, "--export", "changes.csv"], cwd=candidate, env=environ(past), stderr=subprocess.PIPE, text=True) as running:
        ending = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'paynow past'"
        eventually(lambda: execute(past, ending), within_s=30)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 1
    assert err.startswith("paynow: PostgreSQL")
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in candidate.iterdir()) == ["candidate.toml"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_process_is_left_behind(past: str, candidate: Path, how: signal.Signals) -> None:
    """The workers are held still until their parent was told to end, so that it happens in the middle."""
    with subprocess.Popen(COMMAND, cwd=candidate, env=environ(past), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        family = eventually(lambda: workers if len(workers := members(running.pid)) > 2 else None, within_s=30)
        family.remove(running.pid)
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        running.send_signal(how)
        for pid in family:
            os.kill(pid, signal.SIGCONT)
        running.wait(timeout=60)
        eventually(lambda: not any(map(alive, family)), within_s=30)
    assert running.returncode == (130 if how is signal.SIGINT else -how)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_text())[2] != "Z"
    except OSError:
        return False
