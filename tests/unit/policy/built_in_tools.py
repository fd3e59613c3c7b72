"""The built-in tools' fields as their plugins declare them, and what they say of an ordinary payment."""

from __future__ import annotations

import runpy
from typing import Any

from paynow.plugin_api import NEVER_S, Field
from paynow.resources import folder
from paynow.settings.load import load


def built_in_tools() -> dict[str, dict[str, Field]]:
    settings = load(None, {}).settings
    tools = [
        tool
        for name in ("get_balance", "get_risk_signals")
        for tool in runpy.run_path(str(folder("plugins") / f"{name}.py"))["paynow_register_tools"](settings)
    ]
    return {tool.name: dict(tool.output) for tool in tools}


def ordinary_outputs() -> dict[str, dict[str, Any]]:
    """A customer with 5,000.00, whose first payment this is, to a payee of whom nothing is known."""
    return {
        "getBalance": {"available_minor": 500_000, "reserved_minor": 0},
        "getRiskSignals": {
            **dict.fromkeys(["attempts_1m", "attempts_1h", "attempts_24h"], 1),
            **dict.fromkeys(["attempted_minor_1m", "attempted_minor_1h", "attempted_minor_24h"], 12_550),
            **dict.fromkeys(["allowed_minor_1m", "allowed_minor_1h", "allowed_minor_24h", "allowed_count", "allowed_mean_minor"], 0),
            "amount_to_mean": 1.0,
            "payee_known": False,
            "payee_list": "none",
            "customer_list": "none",
            **dict.fromkeys(["failed_attempts_24h", "customer_age_s", "payee_known_s", "payee_age_s", "payee_customers_24h"], 0),
            "since_allowed_s": NEVER_S,
            "currency_new": True,
            "amount_z_score": 0.0,
            "amount_trailing_zeros": 0,
            "daily_limit_share": 0.0,
        },
    }
