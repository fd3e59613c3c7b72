"""`paynow policy` as an operator runs it."""

from __future__ import annotations

from pathlib import Path

import psycopg2
import psycopg2.errors
import pytest

from commands import paynow
from database import execute
from paynow.resources import folder

ROOT = Path(__file__).parents[2]
RULE = """[[rule]]
id = "large"
when = "payment.amount_minor >= 500000"
then = "review"
message = "A large amount"
"""
UNKNOWN_NAME = RULE.replace("payment.amount_minor", "getBalance.availabel_minor")


def write(place: Path, text: str) -> str:
    (place / "new.toml").write_text(text, encoding="utf-8")
    return "new.toml"


def test_the_configured_policy_is_checked_without_a_database_or_a_secret(tmp_path: Path) -> None:
    ended = paynow(tmp_path, "host=/nowhere", "policy", "check", LOG_HASH_KEY="")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0].split() == ["rule", "then", "when"]
    assert lines[1].split(maxsplit=2)[:2] == ["insufficient_funds", "block"]
    assert lines[-1].startswith(f"valid: {len(lines) - 2} rules, else allow; ")


def test_a_named_file_is_checked_for_programs_too(tmp_path: Path) -> None:
    checked = paynow(tmp_path, None, "policy", "check", "--json", write(tmp_path, RULE)).json()
    assert checked["rules"] == [
        {
            "id": "large",
            "mode": "enforce",
            "then": "review",
            "score": None,
            "when": "payment.amount_minor >= 500000",
            "message": "A large amount",
            "customerMessage": None,
        }
    ]
    assert (checked["default"], checked["thresholds"], checked["examples"], len(checked["version"])) == ("allow", None, 0, 32)


SCORED = """[thresholds]
review = 50

[[rule]]
id = "large"
currency = "USD"
amount = { from = "1000.00" }
score = 60
message = "A large amount"

[[rule]]
id = "odd"
when = "!getRiskSignals.payee_known"
then = "block"
mode = "shadow"
message = "Odd"

[[example]]
name = "large amounts are looked at"
payment = { amount = "1000.00", currency = "USD" }
expect = "review"
"""


def test_scores_shadow_rules_and_examples_are_shown(tmp_path: Path) -> None:
    ended = paynow(tmp_path, None, "policy", "check", write(tmp_path, SCORED))
    assert (ended.code, ended.err) == (0, "")
    rows = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert rows[1] == 'large score +60 payment.currency == "USD" && payment.amount_minor >= minor("1000.00", "USD")'
    assert rows[2:4] == ["odd block (shadow) !getRiskSignals.payee_known", "review from a score of 50"]
    assert rows[4].startswith("valid: 2 rules, else allow; 1 example holds; version ")
    assert paynow(tmp_path, None, "policy", "check", "--json", "new.toml").json()["thresholds"] == {"review": 50, "block": None}


def test_an_example_that_does_not_hold_refuses_the_policy_with_file_and_line(tmp_path: Path) -> None:
    ended = paynow(tmp_path, None, "policy", "check", write(tmp_path, SCORED.replace('expect = "review"', 'expect = "allow"')))
    assert (ended.code, ended.out) == (2, "")
    expected = "the verdict is review, not allow; fired: large; unknown: none; score 60"
    assert ended.err == f"new.toml:21: example large amounts are looked at: {expected}\n"


@pytest.mark.parametrize("command", ["check", "activate"])
def test_a_wrong_policy_is_refused_with_file_and_line(command: str, database: str, tmp_path: Path) -> None:
    ended = paynow(tmp_path, database, "policy", command, write(tmp_path, UNKNOWN_NAME))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("new.toml:3: ")
    assert "did you mean" in ended.err
    assert execute(database, "select count(*) from policies") == [(0,)]


def test_the_page_with_the_decision_table_is_the_one_that_the_code_tells(tmp_path: Path) -> None:
    ended = paynow(tmp_path, "host=/nowhere", "policy", "table", LOG_HASH_KEY="")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (ROOT / "docs" / "decision-table.md").read_text(encoding="utf-8"), "make docs writes it"


def test_the_decision_table_is_that_of_the_configured_tools_and_the_named_policy(tmp_path: Path) -> None:
    write(tmp_path, SCORED)
    settings = {
        "PAYNOW_AGENT__TOOLS__getBalance__ON_FAILURE": "ignore",
        "PAYNOW_AGENT__TOOLS__getRiskSignals__ON_FAILURE": "block",
        "PAYNOW_RATE_LIMIT__ON_STORE_FAILURE": "local",
    }
    out = paynow(tmp_path, None, "policy", "table", "new.toml", **settings).out
    assert "| `getBalance` | 3 | `ignore` | what the rules say | none |" in out
    assert "| `getRiskSignals` | 3 | `block` | block | `odd` (shadow) |" in out
    assert "is `local`) | decided, limited within the process |" in out


def test_a_file_that_cannot_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    assert paynow(tmp_path, None, "policy", "check", "missing.toml").err == "missing.toml: cannot be read: No such file or directory\n"
    (tmp_path / "binary.toml").write_bytes(b"\xff")
    ended = paynow(tmp_path, None, "policy", "check", "binary.toml")
    assert (ended.code, ended.err) == (2, "binary.toml: is not UTF-8 text\n")


def test_a_policy_is_activated_once_listed_and_shown_as_it_was_written(database: str, tmp_path: Path) -> None:
    nothing = paynow(tmp_path, database, "policy", "show")
    assert (nothing.code, nothing.out) == (1, "")
    first = paynow(tmp_path, database, "policy", "activate")
    assert (first.code, "within a second" in first.out) == (0, True)
    assert paynow(tmp_path, database, "policy", "show").out == (folder("config") / "policy.toml").read_text()
    version = paynow(tmp_path, database, "policy", "activate", write(tmp_path, RULE)).out.split()[0]
    again = paynow(tmp_path, database, "policy", "activate", "new.toml")
    assert again.out == f"{version} was the active policy already; nothing was changed\n"
    assert paynow(tmp_path, database, "policy", "show").out == RULE
    listed = paynow(tmp_path, database, "policy", "list", "--json").json()
    assert [(one["version"], one["active"]) for one in listed] == [(version, True), (first.out.split()[0], False)]
    assert all(one["author"] for one in listed)
    assert paynow(tmp_path, database, "policy", "show", first.out.split()[0]).out.startswith("# The policy")
    assert paynow(tmp_path, database, "policy", "list").out.splitlines()[1].split()[:2] == [version, "active"]


def test_an_earlier_policy_can_be_made_active_again(database: str, tmp_path: Path) -> None:
    write(tmp_path, RULE)
    versions = [paynow(tmp_path, database, "policy", "activate", *file).out.split()[0] for file in ([], ["new.toml"], [])]
    assert execute(database, "select version from policies where active") == [(versions[0],)]
    assert versions[0] == versions[2]
    assert execute(database, "select count(*) from policies") == [(2,)]


def test_a_version_that_never_was_cannot_be_shown(database: str, tmp_path: Path) -> None:
    ended = paynow(tmp_path, database, "policy", "show", "abc")
    assert (ended.code, ended.err) == (1, "paynow: there is no such policy: see paynow policy list\n")


def test_a_rollback_goes_back_to_the_policy_before_and_a_second_one_undoes_it(database: str, tmp_path: Path) -> None:
    none = paynow(tmp_path, database, "policy", "rollback")
    assert (none.code, none.err) == (1, "paynow: there is no earlier policy to return to: see paynow policy history\n")
    shipped = paynow(tmp_path, database, "policy", "activate").out.split()[0]
    ours = paynow(tmp_path, database, "policy", "activate", write(tmp_path, RULE)).out.split()[0]
    assert paynow(tmp_path, database, "policy", "rollback").out.startswith(f"{shipped} is the active policy again")
    assert paynow(tmp_path, database, "policy", "rollback").out.startswith(f"{ours} is the active policy again")
    assert paynow(tmp_path, database, "policy", "rollback", ours).out == f"{ours} is the active policy; nothing was changed\n"
    assert paynow(tmp_path, database, "policy", "rollback", "0" * 32).code == 1
    told = paynow(tmp_path, database, "policy", "history", "--json").json()
    assert [(one["version"], one["cause"]) for one in told] == [
        (ours, "rolled_back"),
        (shipped, "rolled_back"),
        (ours, "activated"),
        (shipped, "activated"),
    ]
    assert len(paynow(tmp_path, database, "policy", "history", "--last", "2").out.splitlines()) == 3


def test_a_rollback_to_a_policy_that_does_not_fit_any_more_is_refused(database: str, tmp_path: Path) -> None:
    paynow(tmp_path, database, "policy", "activate")
    known = "insert into policies (version, body, author) values (left(encode(sha256(convert_to(%s, 'UTF8')), 'hex'), 32), %s, 'x')"
    execute(database, known, UNKNOWN_NAME, UNKNOWN_NAME)
    version = execute(database, "select version from policies where not active")[0][0]
    refused = paynow(tmp_path, database, "policy", "rollback", version)
    assert (refused.code, "did you mean" in refused.err) == (2, True)
    assert execute(database, "select count(*) from policies where active and version <> %s", version) == [(1,)]


def test_the_history_of_activations_cannot_be_changed(database: str, tmp_path: Path) -> None:
    paynow(tmp_path, database, "policy", "activate")
    for change in ("update policy_activations set author = 'another'", "delete from policy_activations"):
        with pytest.raises(psycopg2.errors.RestrictViolation):
            execute(database, change)


def test_what_differs_is_shown(database: str, tmp_path: Path) -> None:
    assert paynow(tmp_path, database, "policy", "diff").code == 1
    write(tmp_path, RULE)
    old = paynow(tmp_path, database, "policy", "activate", "new.toml").out.split()[0]
    write(tmp_path, RULE.replace("500000", "900000"))
    by_file = paynow(tmp_path, database, "policy", "diff", "--file", "new.toml").out.splitlines()
    new = paynow(tmp_path, database, "policy", "activate", "new.toml").out.split()[0]
    changed = ['-when = "payment.amount_minor >= 500000"', '+when = "payment.amount_minor >= 900000"']
    for shown in (by_file, paynow(tmp_path, database, "policy", "diff").out.splitlines()):
        assert [line for line in shown[2:] if line[0] in "+-"] == changed
    assert paynow(tmp_path, database, "policy", "diff", old, new).out.splitlines()[:2] == [f"--- {old}", f"+++ {new}"]
    assert paynow(tmp_path, database, "policy", "diff", new, old).out.splitlines()[:2] == [f"--- {new}", f"+++ {old}"]
    assert paynow(tmp_path, database, "policy", "diff", new, new).out == ""
