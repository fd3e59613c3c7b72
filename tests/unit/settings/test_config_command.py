"""`paynow config check` and `paynow config show`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from paynow.cli import main


def run(*args: str, **environ: str) -> Result:
    return CliRunner(env={"PAYNOW_CONFIG": "", **environ}).invoke(main, ["config", *args], catch_exceptions=False)


@pytest.mark.parametrize("command", ["check", "show"])
def test_what_is_wrong_is_listed_one_a_line_with_exit_code_2(command: str, here: Path) -> None:
    (here / "paynow.toml").write_text("[server]\nprt = 1\nport = 'x'", encoding="utf-8")
    result = run(command, "--config", "paynow.toml")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "paynow.toml:3: server.port: expected a whole number from 0 to 65535",
        "paynow.toml:2: server.prt: unknown key; did you mean port?",
    ]


def test_check_is_the_boots_own_code() -> None:
    result = run("check", LOG_HASH_KEY="k" * 32)
    assert (result.exit_code, result.stdout) == (0, "configuration is valid\n")


def test_check_also_tells_what_only_the_boot_finds_out() -> None:
    result = run("check", LOG_HASH_KEY="k" * 32, PAYNOW_PLUGINS__ENABLED="get_balance,get_risk_signals,create_case,not_there")
    assert result.exit_code == 2
    assert "not_there" in result.stderr


def test_show_lists_every_value_with_its_origin(here: Path) -> None:
    (here / ".env").write_text("API_KEY=canary", encoding="utf-8")
    result = run("show", PAYNOW_AGENT__DEADLINE_MS="1500")
    lines = [line.strip().split(maxsplit=2) for line in result.stdout.splitlines()]
    assert lines[0] == ["key", "value", "origin"]
    assert ["agent.deadline_ms", "1500", "environment PAYNOW_AGENT__DEADLINE_MS"] in lines
    assert ["API_KEY", "set", ".env:1"] in lines
    assert '["getBalance", "getRiskSignals"]' in result.stdout
    assert "canary" not in result.stdout


def test_show_as_json_is_a_list_of_objects() -> None:
    found = {value["key"]: value for value in json.loads(run("show", "--json", PAYNOW_SERVER__PORT="0").stdout)}
    assert found["server.port"] == {"key": "server.port", "value": "0", "origin": "environment PAYNOW_SERVER__PORT"}
    assert found["LOG_HASH_KEY"]["value"] in {"set", "not set"}


def test_the_file_may_be_named_by_the_environment(here: Path) -> None:
    (here / "ours.toml").write_text("[server]\nport = 9", encoding="utf-8")
    found = {value["key"]: value["value"] for value in json.loads(run("show", "--json", PAYNOW_CONFIG="ours.toml").stdout)}
    assert found["server.port"] == "9"
