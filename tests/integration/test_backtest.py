"""`paynow backtest` over a past that PayNow's own code wrote: what it counts is what SQL counts, and what each decision says by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg2.extensions import make_dsn

from bench.past import CANDIDATE, copy_decisions, matrix_in_sql, matrix_of
from commands import paynow
from database import execute
from paynow.resources import folder

DECISIONS = 9_000
POLICY = (folder("config") / "policy.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def past(postgres_server, template_database: str, database_numbers) -> str:
    """A database with decisions of a week, in three slices; only read by these tests."""
    name = f"test_{next(database_numbers)}"
    execute(postgres_server.dsn, f"create database {name} template {template_database}")
    dsn = make_dsn(postgres_server.dsn, dbname=name)
    copy_decisions(dsn, DECISIONS, POLICY)
    yield dsn
    execute(postgres_server.dsn, f"drop database {name} with (force)")


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    file = tmp_path / "candidate.toml"
    file.write_text(CANDIDATE)
    return tmp_path


def report(where: Path, dsn: str, *arguments: str) -> dict:
    return paynow(where, dsn, "backtest", "--policy", "candidate.toml", "--json", *arguments).json()


def test_the_matrix_is_the_one_that_sql_counts(past: str, candidate: Path) -> None:
    found = report(candidate, past, "--workers", "2")
    assert found["decisions"] == DECISIONS
    assert found["workers"] == 2
    assert matrix_of(found) == matrix_in_sql(past)
    changed = {(row["recorded"], row["candidate"]): row["decisions"] for row in found["matrix"]}
    assert min(changed["allow", "review"], changed["review", "allow"], changed["block", "block"]) > 50


def test_a_policy_against_its_own_past_changes_nothing_and_fires_the_same_rules(past: str, candidate: Path) -> None:
    """Fallbacks of tools that failed and settles that found the money gone are part of the past."""
    (candidate / "candidate.toml").write_text(POLICY)
    found = report(candidate, past)
    assert (found["changed"], found["unsure"], found["unreadable"]) == (0, 0, 0)
    assert [rule["candidate"] for rule in found["rules"]] == [rule["recorded"] for rule in found["rules"]]
    assert sum(rule["candidate"] for rule in found["rules"]) > 100
    assert execute(past, "select count(*) > 50 from payments where answer like '%overruled%'") == [(True,)]
