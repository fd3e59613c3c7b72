"""Values come from the defaults, a file, `.env`, the environment and options, in this order, and each knows from where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paynow.plugin_api import Limit
from paynow.resources import folder
from paynow.settings import Secrets, ToolSettings
from paynow.settings.load import Loaded, load

Load = Callable[..., Loaded]
Origin = Callable[..., tuple[str, str]]


def test_without_any_configuration_the_defaults_hold(loaded: Load, here: Path) -> None:
    settings = loaded().settings
    assert (settings.server.host, settings.server.port, settings.server.workers) == ("127.0.0.1", 8080, 1)
    assert settings.agent.plan == ("getBalance", "getRiskSignals")
    assert settings.agent.on_review == ("createCase",)
    assert settings.agent.tools == {
        "getBalance": ToolSettings(attempts=3, timeout_ms=400, backoff_ms=20, on_failure="block"),
        "getRiskSignals": ToolSettings(attempts=3, timeout_ms=400, backoff_ms=20, on_failure="review"),
        "createCase": ToolSettings(attempts=3, timeout_ms=400, backoff_ms=20, on_failure="review"),
    }
    assert settings.reservations.ttl_s == 7 * 86_400
    assert settings.rate_limit.customer == Limit(5, 5)
    assert settings.policy.file == folder("config") / "policy.toml"
    assert settings.database.embedded_dir == here / ".paynow"
    assert settings.secrets == Secrets()


def test_each_source_outweighs_the_one_before(origin_of: Origin) -> None:
    file, dotenv, environ, options = "[server]\nport = 1", "\n\nPAYNOW_SERVER__PORT=2\n", {"PAYNOW_SERVER__PORT": "3"}, {"server.port": "4"}
    shipped = origin_of("server.port")
    assert shipped[0] == "8080"
    assert shipped[1].startswith("default.toml:")
    assert origin_of("server.port", file) == ("1", "paynow.toml:2")
    assert origin_of("server.port", file, dotenv=dotenv) == ("2", ".env:3")
    assert origin_of("server.port", file, environ, dotenv) == ("3", "environment PAYNOW_SERVER__PORT")
    assert origin_of("server.port", file, environ, dotenv, options) == ("4", "option --port")
    assert load(None, environ, options=options).settings.server.port == 4


def test_the_origin_of_a_default_is_its_line(origin_of: Origin) -> None:
    _, origin = origin_of("agent.deadline_ms")
    line = (folder("config") / "default.toml").read_text(encoding="utf-8").splitlines()[int(origin.removeprefix("default.toml:")) - 1]
    assert line.startswith("deadline_ms = 2000")


def test_a_file_changes_only_the_keys_that_it_names(loaded: Load) -> None:
    settings = loaded("[agent.tools.getBalance]\nattempts = 5").settings
    assert settings.agent.tools["getBalance"] == ToolSettings(attempts=5, timeout_ms=400, backoff_ms=20, on_failure="block")


def test_an_empty_file_changes_nothing(loaded: Load) -> None:
    assert loaded("").settings == loaded().settings


def test_a_variable_names_the_file(here: Path) -> None:
    (here / "of_ours.toml").write_text("[server]\nport = 9", encoding="utf-8")
    (here / ".env").write_text("PAYNOW_CONFIG=of_ours.toml", encoding="utf-8")
    assert load(None, {}, dotenv=here / ".env").settings.server.port == 9
    assert load(None, {"PAYNOW_CONFIG": "of_ours.toml"}).settings.server.port == 9
    assert load(None, {"PAYNOW_CONFIG": ""}).settings.server.port == 8080
    (here / "other.toml").write_text("[server]\nport = 10", encoding="utf-8")
    assert load(None, {"PAYNOW_CONFIG": "other.toml"}, dotenv=here / ".env").settings.server.port == 10


def test_the_option_outweighs_the_variable_that_names_a_file(loaded: Load) -> None:
    assert loaded("[server]\nport = 9", {"PAYNOW_CONFIG": "missing.toml"}).settings.server.port == 9


def test_paths_are_relative_to_the_file_that_names_them(here: Path) -> None:
    ours = here / "etc"
    (ours / "more").mkdir(parents=True)
    (ours / "rules.toml").touch()
    (ours / "paynow.toml").write_text('plugins.dirs = ["more"]\npolicy.file = "rules.toml"\ndatabase.embedded_dir = "data"', encoding="utf-8")
    settings = load(Path("etc/paynow.toml"), {}).settings
    assert settings.plugins.dirs == (ours / "more",)
    assert settings.policy.file == ours / "rules.toml"
    assert settings.database.embedded_dir == ours / "data"


def test_paths_in_the_environment_are_relative_to_the_current_directory(here: Path) -> None:
    (here / "more").mkdir()
    settings = load(None, {"PAYNOW_PLUGINS__DIRS": "more", "PAYNOW_DATABASE__EMBEDDED_DIR": "/var/data"}).settings
    assert settings.plugins.dirs == (here / "more",)
    assert settings.database.embedded_dir == Path("/var/data")


def test_paths_in_a_dotenv_are_relative_to_its_own_folder(here: Path) -> None:
    (here / "etc" / "more").mkdir(parents=True)
    (here / "etc" / "ours.toml").write_text("[server]\nport = 9", encoding="utf-8")
    (here / "etc" / ".env").write_text("PAYNOW_PLUGINS__DIRS=more\nPAYNOW_CONFIG=ours.toml", encoding="utf-8")
    settings = load(None, {}, dotenv=here / "etc" / ".env").settings
    assert (settings.plugins.dirs, settings.server.port) == ((here / "etc" / "more",), 9)


def test_the_default_folder_of_plugins_counts_if_it_is_there(loaded: Load, here: Path) -> None:
    assert loaded().settings.plugins.dirs == ()
    (here / "plugins").mkdir()
    assert loaded().settings.plugins.dirs == (here / "plugins",)


def test_a_tool_of_the_plan_without_a_table_has_safe_limits(origin_of: Origin, loaded: Load) -> None:
    plan = '[agent]\nplan = ["getBalance", "getDeviceTrust"]'
    assert loaded(plan).settings.agent.tools["getDeviceTrust"] == ToolSettings(attempts=3, timeout_ms=400, backoff_ms=20, on_failure="review")
    assert origin_of("agent.tools.getDeviceTrust.on_failure", plan) == ("review", "built-in default")


def test_tools_that_the_plan_leaves_out_are_left_out(loaded: Load) -> None:
    assert list(loaded('[agent]\nplan = ["getBalance"]\non_review = []').settings.agent.tools) == ["getBalance"]


def test_the_customers_limit_can_be_off(loaded: Load) -> None:
    assert loaded('[rate_limit]\ncustomer = "off"').settings.rate_limit.customer is None
    assert loaded('[rate_limit]\ncustomer = "120/m"\nburst = 9').settings.rate_limit.customer == Limit(2, 9)


def test_the_policy_guard_is_off_unless_it_has_a_window(loaded: Load) -> None:
    assert loaded().settings.policy_guard.window_s is None
    guard = loaded("[policy_guard]\nwindow = '5m'\nblock_band = [0, 0.25]").settings.policy_guard
    assert (guard.window_s, guard.review_band, guard.block_band, guard.roll_back_within_s) == (300.0, (0.0, 1.0), (0.0, 0.25), 1800.0)


def test_a_policy_guard_that_is_switched_off_may_stay_described(loaded: Load) -> None:
    assert loaded("[policy_guard]\nwindow = 'off'\nblock_band = [0, 0.25]").settings.policy_guard.window_s is None


def test_a_plugin_has_its_own_settings(loaded: Load) -> None:
    toml = '[plugins]\nenabled = ["trust"]\n[plugins.settings.trust]\nfloor = 0.5\nlists = { a = [1] }'
    environ = {
        "PAYNOW_PLUGINS__SETTINGS__TRUST__FLOOR": "0.7",
        "PAYNOW_PLUGINS__SETTINGS__TRUST__URL": "https://x",
        "PAYNOW_PLUGINS__SETTINGS__TRUST__ON": "true",
    }
    assert loaded(toml, environ).settings.plugins.settings == {"trust": {"floor": 0.7, "lists": {"a": [1]}, "url": "https://x", "on": True}}


def test_a_plugins_settings_that_sound_secret_are_not_shown(origin_of: Origin) -> None:
    toml = '[plugins]\nenabled = ["trust"]\n[plugins.settings.trust]\napi_token = "canary"\nfloor = 1'
    assert origin_of("plugins.settings.trust.api_token", toml) == ("set", "paynow.toml:4")
    assert origin_of("plugins.settings.trust.floor", toml) == ("1", "paynow.toml:5")


@pytest.mark.parametrize(("key", "shown"), [("reservations.ttl", "7d"), ("agent.plan", '["getBalance", "getRiskSignals"]'), ("policy.shadow", "[]")])
def test_values_are_shown_as_they_are_written(key: str, shown: str, origin_of: Origin) -> None:
    assert origin_of(key)[0] == shown


def test_others_can_ask_where_a_key_or_a_table_was_set(loaded: Load) -> None:
    configuration = loaded("[plugins.settings.mine]\nfloor = 1\n[agent]\nplan = ['getBalance']")
    assert configuration.origin_of("agent.plan") == "paynow.toml:4"
    assert configuration.origin_of("plugins.settings.mine") == "paynow.toml:2"
    assert configuration.origin_of("plugins.settings.min") == "configuration"


def test_settings_are_read_only(loaded: Load) -> None:
    with pytest.raises(TypeError):
        loaded().settings.agent.tools["other"] = ToolSettings(1, 1, 1, "ignore")  # type: ignore[index]
