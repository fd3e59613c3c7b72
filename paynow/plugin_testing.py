"""For the tests of plugins: a payment, a context with doubles in place of PostgreSQL, and the boot's own loading of one plugin file.

    tool = load_plugin(Path("plugins/get_left.py")).tools["getLeft"]
    accounts = AccountsInMemory({("c_123", "USD"): Balance(2_000, 0)})
    assert call_tool(tool, context_for(a_payment(amount_minor=500), accounts=accounts)) == {"left_minor": 1_500}

The doubles do what `plugin_api` says of their protocols, and are held to it by the same tests as the store. Nothing here is for production.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import aiohttp
from loguru import logger

from paynow.ids import new_id
from paynow.plugin_api import (
    NEVER_S,
    Accounts,
    Activity,
    ActivityReader,
    Balance,
    Cases,
    Lists,
    Payment,
    Tool,
    ToolContext,
    ToolError,
    Verdict,
)
from paynow.plugin_loader import Plugins, load_plugins
from paynow.settings.load import load


def a_payment(**changes: Any) -> Payment:
    """A payment of 125.50 USD from `c_123` to `p_789`; `changes` are fields of `Payment`."""
    payment = Payment(UUID("01920000-0000-7000-8000-0000000000c1"), customer_id="c_123", payee_id="p_789", amount_minor=12_550, currency="USD")
    return replace(payment, **changes)


def an_activity(payment: Payment, **changes: Any) -> Activity:
    """What is known of a customer whose first payment this is; `changes` are fields of `Activity`."""
    attempts = dict.fromkeys(("attempts_1m", "attempts_1h", "attempts_24h"), 1)
    attempted = dict.fromkeys(("attempted_minor_1m", "attempted_minor_1h", "attempted_minor_24h"), payment.amount_minor)
    allowed = dict.fromkeys(("allowed_minor_1m", "allowed_minor_1h", "allowed_minor_24h", "allowed_count", "allowed_mean_minor"), 0)
    nothing = dict.fromkeys(("failed_attempts_24h", "usual_count", "customer_age_s", "payee_known_s", "payee_age_s", "payee_customers_24h"), 0)
    usual = dict.fromkeys(("usual_mean_minor", "usual_deviation_minor"), 0.0)
    activity = Activity(
        **attempts,
        **attempted,
        **allowed,
        **nothing,
        **usual,
        payee_known=False,
        payee_list="none",
        customer_list="none",
        since_allowed_s=NEVER_S,
    )
    return replace(activity, **changes)


class AccountsInMemory:
    """Balances by customer and currency."""

    def __init__(self, balances: Mapping[tuple[str, str], Balance] | None = None) -> None:
        self.balances = dict(balances or {})

    async def balance(self, customer_id: str, currency: str) -> Balance:
        return self.balances.get((customer_id, currency), Balance(0, 0))


class ActivityInMemory:
    """The same activity for every payment; without one, that of a customer's first payment."""

    def __init__(self, activity: Activity | None = None) -> None:
        self._activity = activity

    async def activity(self, payment: Payment) -> Activity:
        return self._activity or an_activity(payment)


class ListsInMemory:
    """Entries `(kind, subject, listing)`: `("payee", "p_789", "block")`."""

    def __init__(self, entries: Collection[tuple[str, str, str]] = ()) -> None:
        self.entries = set(entries)

    async def listed(self, kind: str, subject: str) -> str:
        return next((listing for listing in ("block", "allow") if (kind, subject, listing) in self.entries), "none")


class CasesInMemory:
    """Cases by payment id; `staged` shows what would be opened with the decision."""

    def __init__(self) -> None:
        self.staged: dict[UUID, tuple[UUID, Verdict]] = {}

    def stage(self, payment: Payment, verdict: Verdict) -> UUID:
        case_id, _ = self.staged.setdefault(payment.payment_id, (new_id(payment.customer_id), verdict))
        return case_id


def context_for(
    payment: Payment,
    *,
    accounts: Accounts | None = None,
    activity: ActivityReader | None = None,
    lists: Lists | None = None,
    cases: Cases | None = None,
    http: aiohttp.ClientSession | None = None,
    verdict: Verdict | None = None,
    attempt: int = 1,
    deadline_s: float = 1.0,
) -> ToolContext:
    """The context of one attempt. What is not given is an empty double; a tool that uses `http` needs a real session, for a server of the test's."""
    return ToolContext(
        payment=payment,
        attempt=attempt,
        deadline_s=deadline_s,
        accounts=accounts or AccountsInMemory(),
        activity=activity or ActivityInMemory(),
        lists=lists or ListsInMemory(),
        cases=cases or CasesInMemory(),
        http=http or _Withheld("no_http_in_this_test"),  # type: ignore[arg-type]
        log=logger,
        verdict=verdict,
    )


def call_tool(tool: Tool, context: ToolContext) -> dict[str, Any]:
    """What one attempt gives, held to the tool's declared output. A blocking tool finds no ports, as in the service.

    Raises what the tool raises, and `AssertionError` for an output that the service would take as a failure. For tests that are
    async themselves: `check_output(tool, await tool.call(context))`.
    """
    if tool.blocking:
        off: Any = _Withheld("no_ports_on_a_thread")
        return check_output(tool, tool.call(replace(context, accounts=off, activity=off, lists=off, cases=off, http=off)))

    async def call() -> object:
        return await tool.call(context)  # type: ignore[misc]

    return check_output(tool, asyncio.run(call()))


def check_output(tool: Tool, output: object) -> dict[str, Any]:
    """The output as a dict. Raises `AssertionError` that names every field that is missing, not declared, or not what was declared."""
    assert isinstance(output, Mapping), f"{tool.name} gave {type(output).__name__}, not a dict"
    faults = [f"`{name}` is missing" for name in tool.output if name not in output]
    faults += [f"`{name}` is not declared" for name in output if name not in tool.output]
    declared = [(name, field, output[name]) for name, field in tool.output.items() if name in output]
    faults += [f"`{name}` is {value!r}, which is not {field}" for name, field, value in declared if not field.accepts(value)]
    faults += [f"`{name}` holds what JSON or PostgreSQL cannot" for name, _, value in declared if isinstance(value, str) and not _storable(value)]
    if faults:
        raise AssertionError(f"{tool.name}: {'; '.join(faults)}")
    return dict(output)


def load_plugin(file: Path, **own_settings: Any) -> Plugins:
    """All that the plugin in `file` registers, loaded as at boot over the shipped configuration, beside the built-in sinks and limiters.

    `own_settings` are those of `[plugins.settings.NAME]`. Raises `ConfigurationRefused` with all that a boot would refuse.
    """
    settings = load(None, {}).settings
    plugins = replace(settings.plugins, dirs=(file.parent,), enabled=(file.stem,), settings={file.stem: own_settings})
    return load_plugins(replace(settings, plugins=plugins))


def _storable(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


class _Withheld:
    """Stands where a tool has no port: whatever is asked of it raises `ToolError` with this code."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __getattr__(self, name: str) -> NoReturn:
        raise ToolError(self._code, retry=False)
