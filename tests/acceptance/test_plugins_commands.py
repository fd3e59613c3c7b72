"""`paynow plugins list` and `paynow plugins new`, as an operator runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from commands import Ended, paynow
from paynow.cli import main

LOUD = "from pathlib import Path\nPath(__file__).with_name('imported').touch()\n"


def plugins(folder: Path, *arguments: str) -> Ended:
    return paynow(folder, None, "plugins", *arguments)


def with_plugin(folder: Path, name: str, text: str) -> None:
    (folder / "plugins").mkdir(exist_ok=True)
    (folder / "plugins" / f"{name}.py").write_text(text, encoding="utf-8")


def enable(folder: Path, *names: str) -> None:
    (folder / "plugins").mkdir(exist_ok=True)
    (folder / "paynow.toml").write_text(f"[plugins]\ndirs = ['plugins']\nenabled = {list(names)}\n", encoding="utf-8")


def pytest_in(folder: Path, *arguments: str) -> Ended:
    """A plain pytest, as a plugin's author has it: without this repository's configuration."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120, env=dict(os.environ))
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def test_list_shows_what_is_enabled_and_what_it_brings(tmp_path: Path) -> None:
    shown = {plugin["name"]: plugin for plugin in plugins(tmp_path, "list", "--json").json()}
    balance = shown["get_balance"]
    assert (balance["state"], balance["hooks"], balance["tools"]) == ("enabled", ["paynow_register_tools"], ["getBalance"])
    assert balance["source"].endswith("get_balance.py")
    assert (shown["sink_memory"]["state"], shown["sink_memory"]["sinks"]) == ("enabled", ["memory"])
    assert (shown["limiter_postgres"]["state"], shown["limiter_postgres"]["limiters"]) == ("enabled", ["postgres"])
    assert shown["sink_log"] | {"source": ""} == {
        "name": "sink_log",
        "state": "available",
        "source": "",
        "hooks": [],
        "tools": [],
        "sinks": [],
        "limiters": [],
    }


def test_list_for_eyes_says_the_same_in_a_line_each(tmp_path: Path) -> None:
    listed = plugins(tmp_path, "list")
    assert listed.code == 0
    assert re.search(r"^create_case +enabled +\S+create_case\.py +paynow_register_tools +createCase *$", listed.out, re.MULTILINE)
    assert re.search(r"^limiter_memory +available +\S+limiter_memory\.py +- +- *$", listed.out, re.MULTILINE)


def test_list_does_not_import_what_is_not_enabled(tmp_path: Path) -> None:
    with_plugin(tmp_path, "loud", LOUD)
    shown = {plugin["name"]: plugin["state"] for plugin in plugins(tmp_path, "list", "--json").json()}
    assert shown["loud"] == "available"
    assert not (tmp_path / "plugins" / "imported").exists()


def test_list_refuses_a_plugin_that_fails_with_its_name_and_its_line(tmp_path: Path) -> None:
    with_plugin(tmp_path, "broken", "x = 1\nraise RuntimeError('no licence')\n")
    enable(tmp_path, "broken")
    listed = plugins(tmp_path, "list", "--config", "paynow.toml")
    assert listed.code == 2
    assert "broken.py:2: plugin broken: cannot be loaded: RuntimeError: no licence" in listed.err
    assert "Traceback" not in listed.err


def test_list_names_the_line_of_an_unknown_plugin(tmp_path: Path) -> None:
    enable(tmp_path, "get_balanse")
    listed = plugins(tmp_path, "list", "--config", "paynow.toml")
    assert listed.code == 2
    assert listed.err == "paynow.toml:3: plugins.enabled: there is no plugin `get_balanse`; did you mean get_balance?\n"


def test_new_writes_a_tool_whose_test_passes_right_away(tmp_path: Path) -> None:
    assert plugins(tmp_path, "new", "device_trust").code == 0
    tested = pytest_in(tmp_path, "plugins")
    assert tested.code == 0, tested.out
    assert "3 passed" in tested.out


def test_the_test_that_new_writes_fails_when_the_tool_is_broken(tmp_path: Path) -> None:
    plugins(tmp_path, "new", "device_trust")
    file = tmp_path / "plugins" / "device_trust.py"
    for good, bad in (
        ("payment.amount_minor /", "2 * payment.amount_minor /"),
        ("else 1.0", "else 0.0"),
        ("== 0}", "== 1}"),
        ("real(", "flag(doc='')  # "),
    ):
        text = file.read_text(encoding="utf-8")
        assert good in text
        file.write_text(text.replace(good, bad), encoding="utf-8")
        assert pytest_in(tmp_path, "plugins").code == 1, bad
        file.write_text(text, encoding="utf-8")


def test_the_next_steps_work_when_they_are_pasted(tmp_path: Path) -> None:
    written = plugins(tmp_path, "new", "device_trust", "--dir", "mine/tools")
    configuration, policy = re.findall(r"\n\n(\[.+?)\n\n", written.out, re.DOTALL)
    (tmp_path / "policy.toml").write_text(policy, encoding="utf-8")
    (tmp_path / "paynow.toml").write_text(f"{configuration}\n[policy]\nfile = 'policy.toml'\n", encoding="utf-8")
    assert tomllib.loads(configuration)["agent"]["plan"] == ["getBalance", "getRiskSignals", "deviceTrust"]
    checked = paynow(tmp_path, None, "config", "check", "--config", "paynow.toml")
    assert (checked.code, checked.err) == (0, "")
    shown = {plugin["name"]: plugin for plugin in plugins(tmp_path, "list", "--json", "--config", "paynow.toml").json()}
    assert (shown["device_trust"]["state"], shown["device_trust"]["tools"]) == ("enabled", ["deviceTrust"])


def test_the_next_steps_leave_the_folders_alone_when_the_plugin_lies_in_one(tmp_path: Path) -> None:
    assert "dirs" not in plugins(tmp_path, "new", "device_trust").out


def test_new_does_not_overwrite_anything(tmp_path: Path) -> None:
    plugins(tmp_path, "new", "device_trust")
    file, test = tmp_path / "plugins" / "device_trust.py", tmp_path / "plugins" / "test_device_trust.py"
    file.write_text("mine", encoding="utf-8")
    again = plugins(tmp_path, "new", "device_trust")
    assert again.code == 2
    assert "nothing was written" in again.err
    file.unlink()
    test.write_text("mine too", encoding="utf-8")
    assert plugins(tmp_path, "new", "device_trust").code == 2
    assert not file.exists()
    assert test.read_text(encoding="utf-8") == "mine too"


def test_new_does_not_take_the_name_of_a_built_in_plugin(tmp_path: Path) -> None:
    refused = plugins(tmp_path, "new", "get_balance")
    assert refused.code == 2
    assert "get_balance.py; nothing was written" in refused.err
    assert not (tmp_path / "plugins").exists()


@pytest.mark.parametrize(
    "name",
    ["Device", "device-trust", "_device", "device__trust", "device_", "9lives", "", "test_device", "conftest", "for", "payment", "../up", "d" * 65],
)
def test_new_refuses_names_that_no_tool_can_have(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(main, ["plugins", "new", "--", name])
    assert refused.exit_code == 2
    assert "expected a name like device_trust" in refused.output
    assert list(tmp_path.iterdir()) == []


def test_new_says_when_a_folder_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    refused = plugins(tmp_path, "new", "device_trust", "--dir", "taken")
    assert refused.code == 2
    assert "taken cannot be written to" in refused.err


def test_a_wrong_command_is_wrong_use(tmp_path: Path) -> None:
    assert plugins(tmp_path, "remove").code == 2
    assert plugins(tmp_path, "new").code == 2
    assert plugins(tmp_path, "list", "--config", "missing.toml").code == 2
