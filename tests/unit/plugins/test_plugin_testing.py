"""What plugin authors test with is honest: it does what the service would do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paynow.errors import ConfigurationRefused
from paynow.plugin_api import Effect, Field, Payment, Tool, ToolContext, ToolError, Verdict, choice, flag, text, whole
from paynow.plugin_testing import (
    AccountsInMemory,
    ActivityInMemory,
    Balance,
    CasesInMemory,
    ListsInMemory,
    a_payment,
    an_activity,
    call_tool,
    check_output,
    context_for,
    load_plugin,
)
from ports_contract import PortsContract

FIELDS = {"count": whole(minimum=0), "word": choice("a", "b")}
NOTE = {"note": text()}


class MemoryWorld:
    def __init__(self) -> None:
        self.accounts = AccountsInMemory()
        self.activity = ActivityInMemory()
        self.lists = ListsInMemory()

    async def put_account(self, customer_id: str, currency: str, available_minor: int) -> None:
        self.accounts.balances[customer_id, currency] = Balance(available_minor, 0)

    async def put_on_list(self, kind: str, subject: str, listing: str) -> None:
        self.lists.entries.add((kind, subject, listing))

    async def attempt(self, payment: Payment) -> None:
        """A customer's first payment is what the double tells of without being told."""


class TestPortsInMemory(PortsContract):
    @pytest.fixture
    def world(self) -> MemoryWorld:
        return MemoryWorld()


def tool_of(output: object, fields: dict[str, Field] = FIELDS) -> Tool:
    async def call(context: ToolContext) -> object:
        return output

    return Tool("getX", Effect.READ, fields, call)


def test_a_payment_can_be_changed_field_by_field() -> None:
    assert a_payment(amount_minor=1, currency="JPY") == Payment(a_payment().payment_id, "c_123", "p_789", 1, "JPY")


def test_an_activity_can_be_changed_field_by_field() -> None:
    payment = a_payment(amount_minor=7)
    activity = an_activity(payment, payee_known=True)
    assert (activity.payee_known, activity.attempts_1m, activity.attempted_minor_24h) == (True, 1, 7)


async def test_an_activity_that_is_given_is_told() -> None:
    busy = an_activity(a_payment(), attempts_1m=12)
    assert await ActivityInMemory(busy).activity(a_payment()) == busy


def test_a_tool_is_called_with_its_context_and_its_output_checked() -> None:
    assert call_tool(tool_of({"count": 1, "word": "a"}), context_for(a_payment())) == {"count": 1, "word": "a"}


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (None, "gave NoneType, not a dict"),
        ({"count": 1}, "`word` is missing"),
        ({"count": 1, "word": "a", "more": 1}, "`more` is not declared"),
        ({"count": -1, "word": "a"}, "`count` is -1, which is not"),
        ({"count": True, "word": "a"}, "`count` is True, which is not"),
        ({"count": 1, "word": "c"}, "`word` is 'c', which is not"),
    ],
)
def test_an_output_that_the_service_would_refuse_fails_the_test(output: object, reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        call_tool(tool_of(output), context_for(a_payment()))


@pytest.mark.parametrize("note", ["nul \0", "half \ud83d"])
def test_a_text_that_cannot_be_stored_fails_the_test(note: str) -> None:
    with pytest.raises(AssertionError, match="holds what JSON or PostgreSQL cannot"):
        check_output(tool_of(None, NOTE), {"note": note})


def test_all_that_is_wrong_with_an_output_is_named_at_once() -> None:
    with pytest.raises(AssertionError) as failed:
        check_output(tool_of(None), {"count": -1, "more": 1})
    assert all(word in str(failed.value) for word in ("`word` is missing", "`more` is not declared", "`count` is -1"))


def test_a_blocking_tool_finds_no_ports_as_in_the_service() -> None:
    tool = Tool("getX", Effect.READ, {"a": flag()}, lambda context: {"a": context.accounts.balance("c", "USD")}, blocking=True)
    with pytest.raises(ToolError, match="no_ports_on_a_thread"):
        call_tool(tool, context_for(a_payment()))


def test_a_blocking_tool_sees_its_payment() -> None:
    tool = Tool("getX", Effect.READ, {"count": whole()}, lambda context: {"count": context.payment.amount_minor}, blocking=True)
    assert call_tool(tool, context_for(a_payment(amount_minor=5))) == {"count": 5}


def test_a_tool_that_asks_the_network_needs_a_session_of_the_test() -> None:
    async def call(context: ToolContext) -> object:
        return context.http.get("http://example.test")

    with pytest.raises(ToolError, match="no_http_in_this_test"):
        call_tool(Tool("getX", Effect.READ, {}, call), context_for(a_payment()))


def test_a_case_is_staged_once_per_payment() -> None:
    cases, verdict = CasesInMemory(), Verdict("review", ("velocity_1m",))
    first = cases.stage(a_payment(), verdict)
    assert cases.stage(a_payment(), verdict) == first
    assert cases.staged == {a_payment().payment_id: (first, verdict)}


def test_a_plugin_file_is_loaded_as_at_boot_with_its_own_settings(folder_of: Callable[..., Path]) -> None:
    text = """
from paynow.plugin_api import Effect, Tool, hookimpl
async def call(context): return {}
@hookimpl
def paynow_register_tools(settings):
    return [Tool(settings.plugins.settings["own"]["name"], Effect.READ, {}, call)]
"""
    assert list(load_plugin(folder_of({"own": text}) / "own.py", name="getOwn").tools) == ["getOwn"]


def test_a_plugin_file_that_a_boot_would_refuse_is_refused(folder_of: Callable[..., Path]) -> None:
    with pytest.raises(ConfigurationRefused, match="implements no hook"):
        load_plugin(folder_of({"own": "x = 1"}) / "own.py")
