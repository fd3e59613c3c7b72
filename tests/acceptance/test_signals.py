"""Signals through the HTTP door: what a service counts behind its payments, and settings of the plugin, reach the trace."""

from __future__ import annotations

from pathlib import Path

from database import execute
from service import UNLIMITED, RunningService, body, open_account, running
from waiting import meanwhile


async def signals(service: RunningService, customer: str, amount: str = "20.00", key: str = "k-1") -> dict:
    async with service.client() as client, client.post("/api/payments/decide", json=body(customer, amount, key, payeeId="p_many")) as response:
        answer = await response.json()
    [step] = [step for step in answer["agentTrace"] if step.get("tool") == "getRiskSignals"]
    return step["output"]


async def test_a_service_counts_who_pays_a_payee_and_tells_it_of_the_next(database: str, tmp_path: Path) -> None:
    for number in range(3):
        open_account(database, f"c_{number}", 100_000)
    with running(database, tmp_path, UNLIMITED) as service:
        assert (await signals(service, "c_0"))["payee_customers_24h"] == 0
        await signals(service, "c_1")
        await meanwhile(lambda: execute(database, "select customers from payees") == [(2,)])
        assert (await signals(service, "c_2"))["payee_customers_24h"] == 2
        async with service.client() as client, client.get("/metrics") as response:
            assert "paynow_payees_behind_seconds" in await response.text()


async def test_a_daily_limit_is_a_setting_of_the_plugin(database: str, tmp_path: Path) -> None:
    open_account(database, "c_0", 100_000)
    (tmp_path / "paynow.toml").write_text('[plugins.settings.get_risk_signals.daily_limit]\nUSD = "50.00"\n')
    with running(database, tmp_path, UNLIMITED, arguments=("--config", "paynow.toml")) as service:
        shares = [(await signals(service, "c_0", "20.00", f"k-{number}"))["daily_limit_share"] for number in range(3)]
    assert shares == [0.4, 0.8, 1.2]
