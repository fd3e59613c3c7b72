"""A stranger's tool, as a file in a configured folder or as an installed package: called, in the trace, read by a rule. PayNow is as it was."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import paynow
from database import execute
from service import RunningService, body, open_account

TOOL = """
from paynow.plugin_api import Effect, Tool, hookimpl, whole

async def call(context):
    return {"score": context.payment.amount_minor // 100, "payees_seen": len(context.payment.payee_id)}

@hookimpl
def paynow_register_tools(settings):
    return [Tool("myTool", Effect.READ, {"score": whole(), "payees_seen": whole()}, call)]
"""
CONFIG = """
[plugins]
dirs = ["plugins"]
enabled = ["get_balance", "get_risk_signals", "create_case", "my_tool"]
[agent]
plan = ["getBalance", "getRiskSignals", "myTool"]
[policy]
file = "policy.toml"
"""
POLICY = """
[[rule]]
id = "score_too_high"
when = "myTool.score > 5"
then = "review"
message = "My tool says so"
"""
NOT_ENABLED = 'from pathlib import Path\nPath(__file__).with_name("was_imported").touch()\n'


def installed(folder: Path) -> dict[str, str]:
    """A wheel with the tool, installed by pip into a folder of its own; what the service's environment needs to see it."""
    wheel, site = folder / "my_package-1.2-py3-none-any.whl", folder / "site"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("my_package.py", TOOL)
        archive.writestr("my_package-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: my-package\nVersion: 1.2\n")
        archive.writestr("my_package-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("my_package-1.2.dist-info/entry_points.txt", "[paynow]\nmy_tool = my_package\n")
        archive.writestr("my_package-1.2.dist-info/RECORD", "")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--disable-pip-version-check", "--target", site, wheel]
    subprocess.run(command, check=True, timeout=60)
    return {"PYTHONPATH": str(site)}


def dropped(folder: Path) -> dict[str, str]:
    (folder / "plugins").mkdir()
    (folder / "plugins" / "my_tool.py").write_text(TOOL)
    return {}


@pytest.fixture(params=[dropped, installed], ids=["a file", "a package"])
def brought(request: pytest.FixtureRequest, tmp_path: Path, plugin_service: Callable[..., RunningService]) -> Callable[[], RunningService]:
    """Starts a service with the tool brought in one of the two ways, and beside it a file that nobody enabled."""

    def start() -> RunningService:
        environ = request.param(tmp_path)
        (tmp_path / "policy.toml").write_text(POLICY)
        return plugin_service({"loud": NOT_ENABLED}, CONFIG, {**environ, "PAYNOW_POLICY__FILE": ""})

    return start


async def test_a_tool_that_was_brought_is_called_stands_in_the_trace_and_decides_by_a_rule(brought: Callable[[], RunningService]) -> None:
    service = brought()
    open_account(service.dsn, "c_1", 1_000_000)
    async with service.client() as client:
        for amount, decision, reasons in (("5.99", "allow", []), ("6.00", "review", [{"code": "score_too_high", "message": "My tool says so"}])):
            async with client.post("/api/payments/decide", json=body(amount=amount, key=f"k-{amount}")) as response:
                answer = await response.json()
            assert (response.status, answer["decision"], answer["reasons"], answer["degraded"]) == (200, decision, reasons, False)
            assert answer["agentTrace"][0]["tools"] == ["getBalance", "getRiskSignals", "myTool"]
            (step,) = [step for step in answer["agentTrace"] if step.get("tool") == "myTool"]
            assert (step["step"], step["attempt"], step["status"]) == ("tool", 1, "ok")
            assert step["output"] == {"score": int(amount[0]), "payees_seen": 3}
        async with client.get(f"/api/payments/{answer['paymentId']}") as response:
            stored = await response.json()
        assert stored["agentTrace"] == answer["agentTrace"]
        async with client.get(f"/api/cases/{answer['caseId']}") as response:
            assert [reason["code"] if isinstance(reason, dict) else reason for reason in (await response.json())["reasons"]] == ["score_too_high"]
        async with client.get("/metrics") as response:
            assert 'tool="myTool"' in await response.text()
    assert execute(service.dsn, "select count(*) from cases")[0][0] == 1


def test_a_plugin_that_nobody_enabled_is_not_even_imported(brought: Callable[[], RunningService], tmp_path: Path) -> None:
    brought()
    assert (tmp_path / "plugins" / "loud.py").exists()
    assert not (tmp_path / "plugins" / "was_imported").exists()


def test_the_list_says_where_a_plugin_came_from(tmp_path: Path) -> None:
    environ = installed(tmp_path)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "paynow.toml").write_text(CONFIG)
    shown = {plugin["name"]: plugin for plugin in paynow(tmp_path, None, "plugins", "list", "--json", "--config", "paynow.toml", **environ).json()}
    tool = shown["my_tool"]
    assert (tool["source"], tool["state"], tool["tools"]) == ("package my-package==1.2", "enabled", ["myTool"])


@pytest.mark.parametrize(
    ("rule", "refused"), [("myTool.scores > 5", "scores"), ('myTool.score > "5"', "myTool.score"), ("theirTool.score > 5", "theirTool")]
)
def test_a_rule_over_a_tool_that_was_brought_is_checked_at_the_start(tmp_path: Path, database: str, rule: str, refused: str) -> None:
    dropped(tmp_path)
    (tmp_path / "policy.toml").write_text(POLICY.replace("myTool.score > 5", rule.replace('"', '\\"')))
    (tmp_path / "paynow.toml").write_text(CONFIG)
    ended = paynow(tmp_path, database, "serve", "--port", "0", "--config", "paynow.toml")
    assert ended.code == 2
    assert "policy.toml:4" in ended.err
    assert refused in ended.err


LIMITER = """
from pathlib import Path
from paynow.plugin_api import Grant, RateLimiterMaker, hookimpl

class Limiter:
    name, shared, inside_claim = "own", True, False

    async def take(self, kind, subject, limit):
        return Grant(allowed=True, remaining=1, retry_after_s=0, reset_s=1)

    async def close(self):
        Path("closed").touch()

@hookimpl
def paynow_register_rate_limiters(settings):
    return [RateLimiterMaker("own", lambda take: Limiter(), shared=True)]
"""
LIMITED = """
[plugins]
dirs = ["plugins"]
enabled = ["get_balance", "get_risk_signals", "create_case", "own"]
[rate_limit]
backend = "own"
"""


def test_a_limiter_that_was_brought_is_closed_when_the_service_stops(plugin_service: Callable[..., RunningService], tmp_path: Path) -> None:
    service = plugin_service({"own": LIMITER}, LIMITED)
    assert not (tmp_path / "closed").exists()
    assert service.stop() == 0
    assert (tmp_path / "closed").exists()
