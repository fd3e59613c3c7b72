"""A tool that answers when a test lets it: so a payment can be kept between its claim and its settle for as long as the test likes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAITS = "waits to be let go"
"""What it logs when it has begun."""

PLUGIN = f'''
import asyncio
import os
from pathlib import Path

from paynow.plugin_api import Effect, Tool, flag, hookimpl


@hookimpl
def paynow_register_tools(settings):
    held = Path(settings.plugins.settings["get_patience"]["file"] + os.environ.get("PATIENCE", ""))

    async def get_patience(context):
        if held.exists():
            context.log.info("{WAITS}")
        while held.exists():
            await asyncio.sleep(0.005)
        return {{"ready": True}}

    return [Tool("getPatience", Effect.READ, {{"ready": flag()}}, get_patience)]
'''

CONFIG = """
[plugins]
dirs = ["plugins"]
enabled = ["get_balance", "get_risk_signals", "create_case", "get_patience"]
[plugins.settings.get_patience]
file = "{file}"
[agent]
plan = ["getBalance", "getRiskSignals", "getPatience"]
deadline_ms = 20000
[agent.tools.getPatience]
timeout_ms = 15000
[idempotency]
lease_s = 60
"""
"""To be formatted with the file; what the environment names as `PATIENCE` is put behind it, so that services of one configuration can differ."""


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Keeps the tool waiting meanwhile."""
    file.touch()
    try:
        yield
    finally:
        file.unlink()
